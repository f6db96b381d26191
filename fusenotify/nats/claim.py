# SPDX-License-Identifier: GPL-2.0-or-later
"""Claims: of all publishers of a mount, only one at a time publishes.

A claim is a key in the bucket of nats.places, whose value names a process.  Its publisher renews
it again and again, each time only if nobody else has changed it since.  Another publisher may take
it if the process is dead, which can be seen on the same machine, or if it was not renewed for
LEASE_SECONDS, which can be seen from everywhere.

A claim does not stop messages that are on their way already: the stream drops those by their ids,
or by the number of the last message with their subject (nats.publisher).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator

import nats.js.errors
from nats.js.kv import KeyValue

from fusenotify.nats.connection import Refused, check_cancelled
from fusenotify.nats.places import number_in
from fusenotify.proc import started

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
# A claim is renewed so many times in this time.
_RENEWALS = 3
_LOOK_SECONDS = 0.5
_FREE = "free"
# The start of a process is known to this many ns.
_SLACK = 10**9


class Claim:
    """A publisher's claim on a mount; what says for messages which mount it is.

    The same object is held again after another connection was made.
    """

    def __init__(self, key: str, what: str) -> None:
        self._key = key
        self._what = what
        self._lease = LEASE_SECONDS
        self._me = _Process.this()
        self._revision = 0

    @contextlib.asynccontextmanager
    async def held(self, bucket: KeyValue) -> AsyncIterator[None]:
        """Return a context manager that holds the claim, and renews it.

        Raises Refused if another publisher has the claim, or took it; nats.js.errors.Error,
        and one of connection.TRANSIENT.
        """
        await self._take(bucket)
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renew(bucket))
                yield
                renewing.cancel()
        finally:
            with contextlib.suppress(Exception):  # another one took it, or the server is away
                await bucket.update(self._key, _FREE.encode(), last=self._revision)

    async def _take(self, bucket: KeyValue) -> None:
        revision, value = await self._look(bucket)
        if value not in (_FREE, str(self._me)):
            await self._wait_for(bucket, revision, value)
        await self._put(bucket, revision)

    async def _wait_for(self, bucket: KeyValue, revision: int, value: str) -> None:
        """Wait until the holder of a claim is known to be dead; raise Refused if it lives."""
        holder = _Process.of(value)
        if holder.is_dead():
            return
        if holder.lives():
            raise self._refused(holder)
        log.warning(
            "%s was published by %s: waiting up to %g s for a sign of it",
            self._what,
            holder.shown,
            self._lease,
        )
        end = time.monotonic() + self._lease
        while time.monotonic() < end:
            await asyncio.sleep(min(_LOOK_SECONDS, self._lease / _RENEWALS))
            now, value = await self._look(bucket)
            if value == _FREE:
                return
            if now != revision:
                raise self._refused(_Process.of(value))

    async def _look(self, bucket: KeyValue) -> tuple[int, str]:
        try:
            entry = await bucket.get(self._key)
        except nats.js.errors.KeyNotFoundError as error:
            # A key that was deleted has a revision.
            return getattr(error.entry, "revision", None) or 0, _FREE
        return entry.revision or 0, (entry.value or b"").decode(errors="replace")

    async def _renew(self, bucket: KeyValue) -> None:
        while True:
            check_cancelled()
            await asyncio.sleep(self._lease / _RENEWALS)
            await self._put(bucket, self._revision)

    async def _put(self, bucket: KeyValue, revision: int) -> None:
        try:
            self._revision = await bucket.update(self._key, str(self._me).encode(), last=revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            # It may be our own, whose acknowledgement was lost.
            revision, value = await self._look(bucket)
            if value != str(self._me):
                raise self._refused(_Process.of(value)) from None
            self._revision = revision

    def _refused(self, holder: _Process) -> Refused:
        return Refused(
            f"{self._what} is published already, by {holder.shown}: have one publisher for each "
            "mount, and a name (--machine) for each machine"
        )


class _Process:
    """A process on some machine, as the value of a claim names it."""

    def __init__(self, host: str, system: str, pid: int, since: int, token: str) -> None:
        self._host = host
        self._system = system  # the running system, and the pid namespace in it
        self._pid = pid
        self._since = since
        self._token = token

    def __str__(self) -> str:
        return f"{self._host} {self._system} {self._pid} {self._since} {self._token}"

    @property
    def shown(self) -> str:
        return f"process {self._pid} on {self._host}"

    @classmethod
    def this(cls) -> _Process:
        pid = os.getpid()
        return cls(socket.gethostname(), _system(), pid, started(pid), secrets.token_hex(8))

    @classmethod
    def of(cls, value: str) -> _Process:
        """Return the process that a value names; an unknown one if it names none."""
        words = value.split(" ")
        if len(words) == 5 and value.isprintable():
            pid, since = number_in(words[2]), number_in(words[3])
            if pid is not None and since is not None:
                return cls(words[0], words[1], pid, since, words[4])
        return cls("an unknown machine", "", 0, 0, value)

    def is_dead(self) -> bool:
        """Return whether it ran here, and has ended."""
        return self._system == _system() and not self._is_here()

    def lives(self) -> bool:
        """Return whether it runs here."""
        return self._system == _system() and self._is_here()

    def _is_here(self) -> bool:
        since = started(self._pid)
        return bool(since) and abs(since - self._since) < _SLACK


def _system() -> str:
    """Return a text that no other running system, or pid namespace in it, has."""
    with open("/proc/sys/kernel/random/boot_id") as boot:
        return f"{boot.read().strip()}:{os.stat('/proc/self/ns/pid').st_ino}"
