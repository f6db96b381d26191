# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a publisher has come, by what is in the stream and by what the server keeps.

nats.publisher asks here where to go on.  If a message is not acknowledged, later ones may be in the
stream nevertheless: a full stream may take a smaller message, and a cluster that changes its
leader any.  So publishing goes on after the last message that was acknowledged, as were all before
it; and what is in the stream after that one is not sent again.

Invariant
    An event is in the stream if its cursor is not after that of the confirmed message, or
        is in ahead; or it was there, and the stream's limits have removed it.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg

from fusenotify.nats.connection import Refused
from fusenotify.nats.places import BUCKET, Place, number_in
from fusenotify.protocol.past import BEGINNING

log = logging.getLogger(__name__)

# The header with a message's id, which ends with the cursor after its event.
ID = "Nats-Msg-Id"
# What happens if these credentials may not use the bucket.
NO_PLACE = (nats.js.errors.Error, nats.errors.TimeoutError, nats.errors.NoRespondersError)
# How many messages are looked at after the confirmed one.  More are not sent by one publisher
# before it notices that one was refused.
_MOST_LATER = 10_000


class _Confirmed(NamedTuple):
    """The last message that is in the stream with all before it.

    stream is when the stream was created, number the highest number of those messages.
    """

    stream: str
    number: int
    cursor: str


class Progress:
    """The progress of one mount's publisher in one stream.

    known is the number of the mount's last message in the stream that this publisher knows.
    ahead has the numbers of messages in the stream that are later than one that is not, by cursor.
    """

    def __init__(self, stream: str, base: str, key: str) -> None:
        """base is the beginning of the mount's subjects, key that of its place."""
        self.known = 0
        self.ahead: dict[str, int] = {}
        self._stream = stream
        # Events in the mount's root have the base itself as subject; others are longer.
        self._subjects = (base, f"{base}.>")
        self._key = key
        self._confirmed: _Confirmed | None = None
        self._place: Place | None = None

    async def begin(self, jetstream: JetStreamContext, created: str) -> str:
        """Return the cursor after which to go on, on a new connection.

        created is when the stream was created.

        Raises Refused, and one of connection.TRANSIENT.
        """
        self.known, cursor = await self.last_published(jetstream)
        kept = await self._kept(jetstream)
        confirmed = self._confirmed or kept
        if confirmed is not None and confirmed.stream == created:
            try:
                later = await self._later(jetstream, confirmed.number)
            except nats.js.errors.APIError as error:
                raise Refused(f"the stream {self._stream}: {error.description}") from None
            if later is not None:
                self._confirmed = confirmed
                self.ahead |= later
                return confirmed.cursor
        self.ahead.clear()
        self._confirmed = _Confirmed(created, self.known, cursor)
        return cursor

    async def confirm(self, number: int, cursor: str, *, is_newest: bool) -> None:
        """Note that a message is in the stream, and all before it; keep the place.

        is_newest says that nothing else was sent, so that the place is kept at once.
        """
        assert self._confirmed is not None, "begin() comes first"
        self.known = max(self.known, number)
        self._confirmed = _Confirmed(
            self._confirmed.stream, max(self._confirmed.number, number), cursor
        )
        self.ahead.pop(cursor, None)
        if self._place is None:
            return
        try:
            await self._place.keep(" ".join(map(str, self._confirmed)))
            if is_newest:
                await self._place.save()
        except NO_PLACE as error:
            self._cannot_keep(error)

    def not_ours(self, why: str) -> str:
        """Return the message for a cursor, from begin(), that the mount does not take."""
        return (
            f"the key {self._key} of the bucket {BUCKET}, or a message with the subject "
            f"{self._subjects[0]} or below, is not of a publisher, so remove it: {why}"
        )

    async def last_published(self, jetstream: JetStreamContext) -> tuple[int, str]:
        """Return the number of this mount's last message in the stream, and the cursor after it.

        They are 0 and BEGINNING if there is none.  Raises Refused.
        """
        try:
            return max([await self.last(jetstream, subject) for subject in self._subjects])
        except nats.js.errors.APIError as error:
            raise Refused(f"the stream {self._stream}: {error.description}") from None

    async def last(self, jetstream: JetStreamContext, subject: str) -> tuple[int, str]:
        """Return the same of the last message with a subject."""
        try:
            found = await jetstream.get_last_msg(self._stream, subject)
        except nats.js.errors.NotFoundError:
            return 0, BEGINNING
        return found.seq or 0, _cursor_of(found)

    async def _later(self, jetstream: JetStreamContext, number: int) -> dict[str, int] | None:
        """Return the numbers of this mount's messages after a number, by cursor.

        None means that there are too many.
        """
        found: dict[str, int] = {}
        for subject in self._subjects:
            last = number
            while True:
                try:
                    message = await jetstream.get_msg(
                        self._stream, seq=last + 1, subject=subject, next=True
                    )
                except nats.js.errors.NotFoundError:
                    break
                last = message.seq or last + 1
                found[_cursor_of(message)] = last
                if len(found) > _MOST_LATER:
                    return None
        return found

    async def _kept(self, jetstream: JetStreamContext) -> _Confirmed | None:
        """Return the message that the server keeps as confirmed."""
        try:
            self._place = await Place.of(jetstream, self._key)
            words = (await self._place.load() or "").split(" ")
        except NO_PLACE as error:
            self._cannot_keep(error)
            return None
        number = number_in(words[1]) if len(words) == 3 else None
        return None if number is None else _Confirmed(words[0], number, words[2])

    def _cannot_keep(self, error: Exception) -> None:
        log.warning("the server keeps no place for this publisher: %s", error)
        self._place = None


def _cursor_of(message: RawStreamMsg) -> str:
    """Return the cursor after a message's event."""
    return str((message.headers or {}).get(ID, BEGINNING)).rpartition(" ")[2]
