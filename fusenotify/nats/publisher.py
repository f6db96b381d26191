# SPDX-License-Identifier: GPL-2.0-or-later
"""The publisher: copies a mount's journal to a JetStream stream, each event once, in order.

It keeps no state here: the server has the cursor after which to go on (nats.progress).  Events
that are not in the stream yet wait in the journal.

Invariants
    A message's id has the mount's name and the cursor of its event, so that the stream drops
        duplicates, and nothing else if the journal itself was copied to another machine.
    Events are sent in order.  If a message is refused or not acknowledged, publishing begins
        again with that one.
    Only one publisher at a time has the claim on the mount (nats.claim).
    With a window of 1, a message is only accepted if the last one with its subject is one that
        this publisher knows, so that an event is in the stream once whatever time has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import socket as sockets
import time
from collections.abc import AsyncIterator, Callable

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

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
    created_at,
    reason_of,
)
from fusenotify.nats.messages import base_of, encoded, subject_of
from fusenotify.nats.places import bucket_of
from fusenotify.nats.progress import ID, NO_PLACE, Progress

log = logging.getLogger(__name__)

# How many sent messages may wait for an acknowledgement.
WINDOW = 1000
# What nats-py adds.
_STREAM = "Nats-Expected-Stream"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
# The longest beginning of subjects.  Servers take 4,096 bytes for a subject and what is beside it,
# and the names of directories take up to 1,000.
_LONGEST_BASE = 2500
# Of how many subjects the last message is remembered.
_MOST_SUBJECTS = 10_000
_ACKNOWLEDGED_SECONDS = 10.0
_STALL_SECONDS = 10.0
_RETRY_SECONDS = (0.2, 5.0)
# After how many seconds without an acknowledgement the stream's last message is looked at again.
# A server knows for two minutes, by default, which messages it had.
_LOOK_AGAIN_SECONDS = 60.0
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
                # A bucket that another publisher has just made may take nothing yet.
                is_new = isinstance(error, NoStreamResponseError)
                if not publisher.was_connected and not is_new:
                    raise Refused(reason_of(error)) from None
                log.warning("%s: %s; trying again", address.shown, reason_of(error))
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
        if len(self._base) > _LONGEST_BASE:
            raise Refused(
                f"the mount's path and the machine's name make subjects of {len(self._base)} "
                f"bytes, and servers take {_LONGEST_BASE}"
            )
        self._subjects = f"{prefix}.>"
        self._name = hashlib.sha256(self._base.encode()).hexdigest()[:32]
        self._progress = Progress(stream, self._base, f"publisher.{stream}.{self._name}")
        self._claim = Claim(f"claim.{stream}.{self._name}", self._base.removesuffix(".tree"))
        self._last_of: dict[str, int] = {}  # the numbers of last messages, by subject
        self._most_bytes = -1  # the limit of the stream for a message; -1 for none
        self._active = 0.0  # when something was acknowledged last
        self._window = window
        self._on_published = on_published

    async def run(self) -> None:
        """Publish until an error interrupts it.

        Raises _Interrupted, one of TRANSIENT, Refused, _MountFailed.
        """
        self.count_before = self.count
        refusals: asyncio.Queue[APIError] = asyncio.Queue()

        def hear(error: Exception) -> None:
            if isinstance(error, APIError):
                refusals.put_nowait(error)

        async with connected(self._address, hear) as jetstream:
            info = await check_stream(jetstream, self._address, self._stream, self._subjects)
            self._most_bytes = info.config.max_msg_size or -1
            try:
                async with self._claimed(jetstream):
                    self.was_connected = True
                    await self._run(jetstream, created_at(info), refusals)
            except BaseExceptionGroup as group:
                raise _first(group) from None

    @contextlib.asynccontextmanager
    async def _claimed(self, jetstream: JetStreamContext) -> AsyncIterator[None]:
        """Return a context manager that holds the claim on the mount, if the server keeps it."""
        try:
            bucket = await bucket_of(jetstream)
        except NO_PLACE as error:
            log.warning("the server keeps no claim of this publisher: %s", error)
            yield
            return
        async with self._claim.held(bucket):
            yield

    async def _run(
        self, jetstream: JetStreamContext, created: str, refusals: asyncio.Queue[APIError]
    ) -> None:
        cursor = await self._progress.begin(jetstream, created)
        self._last_of.clear()
        sent: _Sent = asyncio.Queue(self._window)
        self._active = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_all(jetstream, cursor, sent))
            tasks.create_task(self._confirm_all(sent))
            # For example of a full stream, which its operator may repair.
            refusal = await refusals.get()
            raise _Interrupted(refusal.description or str(refusal))

    async def _send_all(self, jetstream: JetStreamContext, cursor: str, sent: _Sent) -> None:
        events = self._client.since(cursor, follow=True)
        try:
            while True:
                try:
                    event = await anext(events)
                except OSError as error:
                    if error.errno == errno.EINVAL:  # it is not a cursor
                        raise Refused(self._progress.not_ours(str(error.strerror))) from None
                    raise _MountFailed(error) from None
                if time.monotonic() - self._active > _LOOK_AGAIN_SECONDS and sent.empty():
                    # The server may no longer know which messages it had.
                    self._active = time.monotonic()
                    if (await self._progress.last_published(jetstream))[1] != cursor:
                        raise _Interrupted("somebody else publishes this mount, or purged it")
                cursor = event.cursor
                number = self._progress.ahead.get(cursor)
                if number is None:
                    subject, acknowledgement = await self._send(jetstream, event)
                else:
                    subject = subject_of(self._base, event.path)
                    acknowledgement = asyncio.get_running_loop().create_future()
                    acknowledgement.set_result(PubAck(stream=self._stream, seq=number))
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
        headers = {ID: f"{self._name[:16]} {event.cursor}"}
        if self._window == 1:
            headers[_EXPECTED] = str(await self._last_with(jetstream, subject))
        try:
            if 0 < self._most_bytes < len(data) + _size_of(headers | {_STREAM: self._stream}):
                raise nats.errors.MaxPayloadError
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
            number, _ = await self._progress.last(jetstream, subject)
            if number > self._progress.known:
                raise _Interrupted("somebody else publishes this mount")
        if len(self._last_of) >= _MOST_SUBJECTS:
            self._last_of.clear()
        self._last_of[subject] = number
        return number

    async def _confirm_all(self, sent: _Sent) -> None:
        """Wait for the acknowledgements in the order of sending."""
        while True:
            check_cancelled()
            cursor, subject, future = await sent.get()
            try:
                async with asyncio.timeout(_ACKNOWLEDGED_SECONDS):
                    acknowledged = await future
            except APIError as error:
                raise _Interrupted(error.description or str(error)) from None
            except TimeoutError:
                raise _Interrupted("a message was not acknowledged") from None
            if self._window == 1:
                self._last_of[subject] = acknowledged.seq
            sent.task_done()
            self.count += 1
            self._active = time.monotonic()
            await self._progress.confirm(acknowledged.seq, cursor, is_newest=sent.empty())
            if self._on_published is not None and sent.empty():
                self._on_published(self.count)


def _size_of(headers: dict[str, str]) -> int:
    """Return how many bytes headers take in a message."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return len("NATS/1.0\r\n\r\n" + "".join(lines))


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
