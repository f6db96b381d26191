# SPDX-License-Identifier: GPL-2.0-or-later
"""Places that the server keeps, in the key-value bucket BUCKET.

A durable subscriber keeps the number of the last message that was handled; a publisher keeps how
far it has come (nats.progress).  Others who may use the bucket can put anything at any key.
"""

from __future__ import annotations

import re
import time
from typing import Self

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

BUCKET = "fusenotify"
_SAVE_SECONDS = 0.2
# int() takes more, and refuses numbers that are longer than any of ours with an exception.
_NUMBER = re.compile("[0-9]{1,19}")


class Place:
    """One place, under a key."""

    def __init__(self, bucket: KeyValue, key: str) -> None:
        self._bucket = bucket
        self.key = key
        self._kept = self._saved = ""
        self._next = 0.0

    @classmethod
    async def of(cls, jetstream: JetStreamContext, key: str) -> Self:
        """Return the place with a key.

        Raises nats.js.errors.APIError, and one of connection.TRANSIENT.
        """
        return cls(await bucket_of(jetstream), key)

    async def load(self) -> str | None:
        """Return what is kept, or None."""
        try:
            entry = await self._bucket.get(self.key)
        except nats.js.errors.KeyNotFoundError:
            return None
        return (entry.value or b"").decode(errors="replace")

    async def keep(self, text: str) -> None:
        """Note what is to be kept; it is saved soon, and by save()."""
        self._kept = text
        if time.monotonic() >= self._next:
            await self.save()

    async def save(self) -> None:
        """Save what was noted, if it is new."""
        if self._kept != self._saved:
            await self._bucket.put(self.key, self._kept.encode())
            self._saved = self._kept
            self._next = time.monotonic() + _SAVE_SECONDS


def number_in(text: str) -> int | None:
    """Return the number that a word of a value is, or None if it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


async def bucket_of(jetstream: JetStreamContext) -> KeyValue:
    """Return the bucket, which is made if it is missing.

    Raises nats.js.errors.APIError, and one of connection.TRANSIENT.
    """
    try:
        return await jetstream.key_value(BUCKET)
    except nats.js.errors.BucketNotFoundError:
        return await jetstream.create_key_value(bucket=BUCKET)
