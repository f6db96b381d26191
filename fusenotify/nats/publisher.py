# SPDX-License-Identifier: GPL-2.0-or-later
"""The publisher: copies a mount's journal to a JetStream stream, each event once, in order.

It keeps no state here: the mount's last message in the stream has the cursor after which to go
on.  If the stream's limits have removed all of its messages, the server keeps the cursor
(nats.places).  Events that are not in the stream yet wait in the journal.

Invariants
    A message's id has the mount's name and the cursor of its event, so that the stream drops
        duplicates, and nothing else if the journal itself was copied to another machine.
    Events are sent in order.  If a message is not acknowledged, publishing begins again
        after the last message in the stream.
    Only one publisher at a time has the claim on the mount (nats.claim).
    With a window of 1, a message is only accepted if the last one with its subject is one that
        this publisher knows, so that an event is in the stream once whatever time has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket as sockets
import time
from collections.abc import AsyncIterator, Callable

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.client import PastEvent
from fusenotify.client.aio import Client
from fusenotify.nats.claim import Claim
from fusenotify.nats.connection import (
    PREFIX,
    STREAM,
    TRANSIENT,
    Address,
    NotThere,
    Refused,
    check_cancelled,
    check_stream,
    connected,
)
from fusenotify.nats.messages import base_of, encoded, subject_of
from fusenotify.nats.places import Place, bucket_of
from fusenotify.protocol.past import BEGINNING

log = logging.getLogger(__name__)

# How many sent messages may wait for an acknowledgement.
WINDOW = 1000
_ID = "Nats-Msg-Id"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
# Of how many subjects the last message is remembered.
_MOST_SUBJECTS = 10_000
_ACKNOWLEDGED_SECONDS = 10.0
_STALL_SECONDS = 10.0
_RETRY_SECONDS = (0.2, 5.0)
# After how many seconds without an acknowledgement the stream's last message is looked at again.
# A server knows for two minutes, by default, which messages it had.
_LOOK_AGAIN_SECONDS = 60.0
# What happens if these credentials may not use the bucket.
_NO_PLACE = (nats.js.errors.Error, nats.errors.TimeoutError, nats.errors.NoRespondersError)
# Cursors, the subjects of their events, and their acknowledgements.
_Sent = asyncio.Queue[tuple[str, str, asyncio.Future[PubAck]]]


class _Interrupted(Exception):
    """Publishing has to begin again, after the last message in the stream."""


class _MountFailed(Exception):
    """The mount's daemon refused a request, or is gone; error says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


async def publish(
    socket: str,
    address: Address,
    *,
    stream: str = STREAM,
    prefix: str = PREFIX,
    machine: str | None = None,
    window: int = WINDOW,
    on_published: Callable[[int], object] | None = None,
) -> None:
    """Publish a mount's journal, and its new events, until cancelled.

    socket is the path of the mount's socket.  machine defaults to this host's name.  window
    is how many messages may wait for an acknowledgement; with 1, each event is in the stream
    once and in order whatever happens, and waits for a round trip.  on_published is called
    with the number of messages that were acknowledged so far.

    If the server goes away after the first connection, publish() waits until it is back.

    Raises Refused; OSError as fusenotify.client.Client does; ConnectionLost (ECONNRESET) when
    the mount is gone.
    """
    machine = sockets.gethostname() if machine is None else machine
    pause, longest = _RETRY_SECONDS
    async with Client(socket) as client:
        publisher = _Publisher(client, address, stream, prefix, machine, window, on_published)
        while True:
            try:
                await publisher.run()
            except _MountFailed as failed:
                raise failed.error from None
            except (_Interrupted, NotThere, *TRANSIENT) as error:
                if not publisher.was_connected:
                    raise Refused(str(error)) from None
                log.warning("%s: %s; trying again", address.shown, error or type(error).__name__)
            await asyncio.sleep(pause)
            pause = pause * 2 if publisher.count == publisher.count_before else _RETRY_SECONDS[0]
            pause = min(pause, longest)


class _Publisher:
    """Publishes one mount to one stream.

    count is how many messages were acknowledged, and count_before how many before this run.
    """

    def __init__(
        self,
        client: Client,
        address: Address,
        stream: str,
        prefix: str,
        machine: str,
        window: int,
        on_published: Callable[[int], object] | None,
    ) -> None:
        self.was_connected = False
        self.count = self.count_before = 0
        self._client = client
        self._address = address
        self._stream = stream
        self._machine = machine
        self._base = base_of(prefix, machine, client.mountpoint)
        self._subjects = f"{prefix}.>"
        self._name = hashlib.sha256(self._base.encode()).hexdigest()[:32]
        self._key = f"publisher.{stream}.{self._name}"
        self._claim = Claim(f"claim.{stream}.{self._name}", self._base.removesuffix(".tree"))
        self._known = 0  # the number of the last message of this mount that we know
        self._last_of: dict[str, int] = {}  # by subject
        self._active = 0.0  # when something was acknowledged last
        self._window = window
        self._on_published = on_published

    async def run(self) -> None:
        """Publish until an error interrupts it.

        Raises _Interrupted, one of TRANSIENT, Refused, _MountFailed.
        """
        self.count_before = self.count
        async with connected(self._address) as jetstream:
            created = await check_stream(jetstream, self._address, self._stream, self._subjects)
            try:
                async with self._claimed(jetstream):
                    self.was_connected = True
                    await self._run(jetstream, created)
            except BaseExceptionGroup as group:
                raise _first(group) from None

    @contextlib.asynccontextmanager
    async def _claimed(self, jetstream: JetStreamContext) -> AsyncIterator[None]:
        """Return a context manager that holds the claim on the mount, if the server keeps it."""
        try:
            bucket = await bucket_of(jetstream)
        except _NO_PLACE as error:
            log.warning("the server keeps no claim of this publisher: %s", error)
            yield
            return
        async with self._claim.held(bucket):
            yield

    async def _run(self, jetstream: JetStreamContext, created: str) -> None:
        self._known, cursor = await self._last_published(jetstream)
        self._last_of.clear()
        if cursor == BEGINNING:  # its messages may have been removed since
            cursor = await self._kept_place(jetstream, created)
        sent: _Sent = asyncio.Queue(self._window)
        self._active = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_all(jetstream, cursor, sent))
            tasks.create_task(self._confirm_all(jetstream, created, sent))

    async def _last_published(self, jetstream: JetStreamContext) -> tuple[int, str]:
        """Return the number of this mount's last message in the stream, and the cursor after it."""
        try:
            # Events in the mount's root have the base itself as subject; others are longer.
            subjects = [self._base, f"{self._base}.>"]
            found = [await self._last(jetstream, subject) for subject in subjects]
        except nats.js.errors.APIError as error:
            raise Refused(f"the stream {self._stream}: {error.description}") from None
        return max(found)

    async def _last(self, jetstream: JetStreamContext, subject: str) -> tuple[int, str]:
        """Return the number of the last message with a subject, and the cursor after it.

        They are 0 and BEGINNING if there is no message.
        """
        try:
            last = await jetstream.get_last_msg(self._stream, subject)
        except nats.js.errors.NotFoundError:
            return 0, BEGINNING
        number = str((last.headers or {}).get(_ID, BEGINNING))
        return last.seq or 0, number.rpartition(" ")[2]

    async def _kept_place(self, jetstream: JetStreamContext, created: str) -> str:
        """Return the cursor after the last event that was acknowledged by this stream."""
        try:
            kept = await (await Place.of(jetstream, self._key)).load()
        except _NO_PLACE as error:
            log.warning("the server keeps no place for this publisher: %s", error)
            return BEGINNING
        when, _, cursor = (kept or "").rpartition(" ")
        return cursor if when == created and cursor else BEGINNING

    async def _send_all(self, jetstream: JetStreamContext, cursor: str, sent: _Sent) -> None:
        events = self._client.since(cursor, follow=True)
        try:
            while True:
                try:
                    event = await anext(events)
                except OSError as error:
                    raise _MountFailed(error) from None
                if time.monotonic() - self._active > _LOOK_AGAIN_SECONDS and sent.empty():
                    # The server may no longer know which messages it had.
                    self._active = time.monotonic()
                    if (await self._last_published(jetstream))[1] != cursor:
                        raise _Interrupted("somebody else publishes this mount, or purged it")
                cursor = event.cursor
                subject, acknowledgement = await self._send(jetstream, event)
                check_cancelled()
                await sent.put((cursor, subject, acknowledgement))
                if self._window == 1:
                    await sent.join()
        finally:
            await events.aclose()

    async def _send(
        self, jetstream: JetStreamContext, event: PastEvent
    ) -> tuple[str, asyncio.Future[PubAck]]:
        """Send an event; return its subject, and its acknowledgement."""
        subject = subject_of(self._base, event.path)
        data = encoded(self._machine, self._client.mountpoint, event)
        headers = {_ID: f"{self._name[:16]} {event.cursor}"}
        if self._window == 1:
            headers[_EXPECTED] = str(await self._last_with(jetstream, subject))
        try:
            return subject, await jetstream.publish_async(
                subject, data, stream=self._stream, headers=headers, wait_stall=_STALL_SECONDS
            )
        except nats.errors.MaxPayloadError:
            gap = PastEvent(
                cursor=event.cursor,
                sequence=event.sequence,
                time=event.time,
                mask=IN_Q_OVERFLOW,
                reason="too large",
                since=event.time,
            )
            data = encoded(self._machine, self._client.mountpoint, gap)
            if self._window == 1:
                headers[_EXPECTED] = str(await self._last_with(jetstream, self._base))
            return self._base, await jetstream.publish_async(
                self._base, data, stream=self._stream, headers=headers, wait_stall=_STALL_SECONDS
            )

    async def _last_with(self, jetstream: JetStreamContext, subject: str) -> int:
        """Return the number of the last message with a subject, 0 if there is none.

        Raises _Interrupted if somebody else published it.
        """
        number = self._last_of.get(subject)
        if number is None:
            number, _ = await self._last(jetstream, subject)
            if number > self._known:
                raise _Interrupted("somebody else publishes this mount")
        if len(self._last_of) >= _MOST_SUBJECTS:
            self._last_of.clear()
        self._last_of[subject] = number
        return number

    async def _confirm_all(self, jetstream: JetStreamContext, created: str, sent: _Sent) -> None:
        """Wait for the acknowledgements in the order of sending."""
        place: Place | None = None
        can_keep = True
        while True:
            check_cancelled()
            cursor, subject, future = await sent.get()
            try:
                async with asyncio.timeout(_ACKNOWLEDGED_SECONDS):
                    acknowledged = await future
            except nats.js.errors.APIError as error:
                # For example a full stream, which its operator may repair.
                raise _Interrupted(error.description or str(error)) from None
            except TimeoutError:
                raise _Interrupted("a message was not acknowledged") from None
            self._known = acknowledged.seq
            if self._window == 1:
                self._last_of[subject] = acknowledged.seq
            sent.task_done()
            self.count += 1
            self._active = time.monotonic()
            if can_keep:
                try:
                    place = place or await Place.of(jetstream, self._key)
                    await place.keep(f"{created} {cursor}")
                    if sent.empty():
                        await place.save()
                except _NO_PLACE as error:
                    log.warning("the server keeps no place for this publisher: %s", error)
                    can_keep = False
            if self._on_published is not None and sent.empty():
                self._on_published(self.count)


def _first(group: BaseExceptionGroup) -> BaseException:
    """Return the exception of a group that matters most: a failed mount, a refusal, others."""
    leaves: list[BaseException] = []
    below: list[BaseException] = [group]
    while below:
        error = below.pop()
        if isinstance(error, BaseExceptionGroup):
            below += error.exceptions
        else:
            leaves.append(error)
    for kind in (_MountFailed, Refused, _Interrupted):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]
