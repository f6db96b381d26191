# SPDX-License-Identifier: GPL-2.0-or-later
"""One connection: it receives requests, and answers them at once or when events arrive.

server.service runs a session per client; server.devices carries requests out.
docs/reference/protocol.md says what clients may rely on.

Invariants
    Only one task at a time has _outlet, and sends a whole frame; events leave a
        device's queue only then.  So a client that does not read holds back at
        most one answer: its events stay in the device's queue, merge and
        overflow there, and its requests are not read.
    When run() returns, for whatever reason, the devices are closed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Coroutine, Iterator
from typing import Protocol

import trio

from fusenotify.admission import Quotas
from fusenotify.credentials import Credentials
from fusenotify.engine.device import DeviceTable
from fusenotify.errors import QueueEmpty
from fusenotify.protocol.codec import encode, request_decoder
from fusenotify.protocol.errors import LocalProtocolError, RemoteProtocolError
from fusenotify.protocol.messages import (
    NO_REQUEST,
    VERSION,
    ActivityOf,
    AddWatch,
    AnyAnswer,
    AnyRequest,
    Cancel,
    CauseFault,
    CursorIs,
    CursorOf,
    Done,
    Error,
    Hello,
    LimitsAre,
    LimitsOf,
    Notify,
    Poll,
    Read,
    Ready,
    Records,
    RmWatch,
    Since,
    Status,
    StatusOf,
    Stream,
    Sync,
    Welcome,
)
from fusenotify.server.deadlines import deadline_of
from fusenotify.server.devices import ConnectionDevices, Waiting, read_from
from fusenotify.server.history import Asking, History, Pending, required
from fusenotify.server.inlet import Inlet
from fusenotify.server.limits import limits_status, set_limits
from fusenotify.server.outlet import Outlet
from fusenotify.server.status import SERVER_NAME
from fusenotify.server.tree import Tree
from fusenotify.server.turns import Turns

# How long a client that sends no more requests may take to read its last answers.
FAREWELL_SECONDS = 5.0
# The most bytes in a frame of a stream: one of a million bytes takes ten milliseconds.
_MOST_STREAMED = 1 << 16


class Shared(Protocol):
    """The state that all sessions of a mount share.  server.service implements it."""

    table: DeviceTable
    tree: Tree
    mountpoint: bytes
    quotas: Quotas
    turns: Turns
    history: History | None

    def status(self, who: Credentials, request: int) -> Status:
        """Return the answer to a status request."""

    def device_numbers(self) -> Iterator[int]:
        """Return the iterator from which a connection takes the numbers of its devices."""

    async def cause(self, asking: Session, request: CauseFault | Notify) -> None:
        """Carry it out, or raise OSError."""

    async def activity(self, who: Credentials, request: ActivityOf) -> AnyAnswer:
        """Return what was done in the mount; raise OSError."""

    def progressed(self) -> None:
        """Note that a queue may have become empty."""


class Session:
    """The server's end of one connection.  who is the client."""

    def __init__(self, shared: Shared, stream: trio.SocketStream, who: Credentials) -> None:
        self.who = who
        numbers, history = shared.device_numbers(), shared.history
        self.devices = ConnectionDevices(shared.table, shared.tree, who, numbers, history)
        self._shared = shared
        self._scope = trio.CancelScope()
        self._outlet = Outlet(stream)
        self._inlet = Inlet(stream)
        self._past_door = trio.Lock()
        self._welcomed = False
        self._waiting: dict[int, Waiting | Pending | None] = {}  # by request id; None for a fence

    def is_drained(self) -> bool:
        """Return whether no event is queued and no answer is being sent."""
        return self._outlet.is_idle() and not any(served.device.queued() for served in self.devices)

    def drop(self) -> None:
        """Make run() return."""
        self._scope.cancel()

    async def run(self) -> None:
        """Answer requests until the client closes the connection or violates the protocol.

        The caller closes the stream after it.  If the client only stops sending,
        its requests are still answered; those that wait for an event with EBADF.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    try:
                        await self._answer_all(nursery)
                    except RemoteProtocolError as violation:
                        await self.refuse(violation.code, violation.detail)
                    self._scope.deadline = trio.current_time() + FAREWELL_SECONDS
                    self.devices.close()
        finally:
            self.devices.close()
            self._shared.progressed()

    async def end(self) -> None:
        """Leave nothing behind that closing the stream would have to wait for."""
        await self._inlet.end()

    async def refuse(self, code: int, message: str) -> None:
        """Tell the client why its connection ends, and end it."""
        with trio.move_on_after(FAREWELL_SECONDS):
            await self._reply(Error(id=NO_REQUEST, errno=code, message=message))
        self._scope.cancel()

    # Requests.

    async def _answer_all(self, nursery: trio.Nursery) -> None:
        decoder = request_decoder()
        while data := await self._inlet.receive():
            for request in decoder.feed(data):
                self._check_order(request)
                try:
                    await self._answer(request, nursery)
                except OSError as refusal:
                    await self._reply(_refused(request, refusal))
                if not isinstance(request, AddWatch):  # that took its turn in _answer()
                    await self._shared.turns.take(self.who)
            if not decoder.rest():
                self._inlet.check_used()

    def _check_order(self, request: AnyRequest) -> None:
        """Check that a request is allowed now, by its id and the state of the connection.

        Raises RemoteProtocolError.
        """
        if request.id <= NO_REQUEST:
            raise RemoteProtocolError(errno.EPROTO, "a request's id is 1 or more")
        if request.id in self._waiting:
            raise RemoteProtocolError(errno.EPROTO, f"request {request.id} is under way already")
        if self._welcomed == isinstance(request, Hello):
            raise RemoteProtocolError(
                errno.EPROTO, "hello is the first request of a connection, and only the first"
            )
        if isinstance(request, Hello) and request.version != VERSION:
            raise RemoteProtocolError(
                errno.EPROTONOSUPPORT,
                f"this is {SERVER_NAME}, which speaks version {VERSION} of the protocol, "
                f"not {request.version}: use the same release of both",
            )

    async def _answer(self, request: AnyRequest, nursery: trio.Nursery) -> None:
        """Answer a request, or start a task that will.

        Raises OSError for a refusal.
        """
        match request:
            case Read():
                if request.fence:
                    await self._shared.tree.fence()
                deadline = deadline_of(request.timeout)
                if request.size < 0:
                    raise OSError(errno.EINVAL, "a size cannot be negative")
                waiting = Waiting(self.devices[request.device])
                if not await self._read_now(request, waiting, deadline):
                    self._start(nursery, request, waiting, self._read(request, waiting, deadline))
            case Poll():
                deadline = deadline_of(request.timeout)
                waiting = Waiting(self.devices[request.device])
                self._start(nursery, request, waiting, self._poll(request, waiting, deadline))
            case Stream():
                waiting = Waiting(self.devices[request.device])
                self._start(nursery, request, waiting, self._stream_to(request, waiting))
            case Sync():
                self._start(nursery, request, None, self._sync(request))
            case CursorOf():
                self._start(nursery, request, None, self._cursor(request))
            case Since():
                pending = Pending()
                self._start(nursery, request, pending, self._since(request, pending))
            case Hello():
                self._welcomed = True
                await self._reply(self._welcome(request))
            case Cancel():
                if (cancelled := self._waiting.get(request.request)) is not None:
                    cancelled.cancel()
                await self._reply(Done(id=request.id))
            case StatusOf():
                await self._reply(self._shared.status(self.who, request.id))
            case LimitsOf():
                limits = self._shared.table.limits
                set_limits(limits, request, self.who)
                now = limits_status(limits, self._shared.quotas)
                await self._reply(LimitsAre(id=request.id, limits=now))
            case CauseFault() | Notify():
                await self._shared.tree.fence()  # events from before are not affected
                await self._shared.cause(self, request)
                await self._reply(Done(id=request.id))
            case ActivityOf():
                await self._reply(await self._shared.activity(self.who, request))
            case AddWatch(path=None):
                passed = self._inlet.take()
                try:
                    await self._shared.tree.fence()
                    await self._shared.turns.take(self.who)
                    await self.devices.wait_for_time(request)
                    answer = self.devices.answer(request, passed)
                finally:
                    await self._inlet.finish(passed)
                await self._reply(answer)
            case _:
                if isinstance(request, AddWatch | RmWatch):
                    # As on Linux, an earlier close is reported to an old watch, not to a new one.
                    await self._shared.tree.fence()
                if isinstance(request, AddWatch):
                    await self._shared.turns.take(self.who)
                    await self.devices.wait_for_time(request)
                await self._reply(self.devices.answer(request))

    def _welcome(self, request: Hello) -> Welcome:
        return Welcome(
            id=request.id,
            version=VERSION,
            semantics=self._shared.table.policy.name,
            mountpoint=self._shared.mountpoint,
            pid=os.getpid(),
            server=SERVER_NAME,
        )

    # Requests that wait.

    def _start(
        self,
        nursery: trio.Nursery,
        request: AnyRequest,
        waiting: Waiting | Pending | None,
        work: Coroutine[None, None, None],
    ) -> None:
        """Let a request wait in a task of its own.

        Raises OSError (EBUSY) if too many requests wait.
        """
        if len(self._waiting) >= (most := self._shared.quotas.max_waiting_requests):
            work.close()
            raise OSError(errno.EBUSY, f"{most} requests of this connection wait already")
        self._waiting[request.id] = waiting
        nursery.start_soon(self._finish, request, work)

    async def _finish(self, request: AnyRequest, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except OSError as refusal:
            await self._reply(_refused(request, refusal))

    async def _read(self, request: Read, waiting: Waiting, deadline: float) -> None:
        answered = False
        while not answered:
            with trio.CancelScope(deadline=deadline):
                await waiting.served.readable(waiting)
            _check_cancelled(waiting)
            # If another read was faster, wait again.
            answered = await self._read_now(request, waiting, deadline)

    async def _read_now(self, request: Read, waiting: Waiting, deadline: float) -> bool:
        """Answer a read; return False if nothing is queued and the read may wait.

        Raises OSError for a refusal.
        """
        may_wait = trio.current_time() < deadline
        device = waiting.served.device
        if may_wait and not device.queued():
            return False
        async with self._outlet:
            _check_cancelled(waiting)
            try:
                frame = _frame(read_from(device, request.id, request.size))
            except QueueEmpty:
                if may_wait:
                    return False
                raise
            await self._send(request.id, frame)
        self._shared.progressed()
        return True

    async def _poll(self, request: Poll, waiting: Waiting, deadline: float) -> None:
        with trio.CancelScope(deadline=deadline):
            await waiting.served.readable(waiting)
        _check_cancelled(waiting)
        await self._reply(Ready(id=request.id, ready=waiting.served.device.poll()))

    async def _stream_to(self, request: Stream, waiting: Waiting) -> None:
        """Send events until cancelled.  Those queued while a frame is sent are in the next one."""
        served = waiting.served
        while True:
            await served.readable(waiting)
            async with self._outlet:
                _check_cancelled(waiting)
                try:
                    size = min(request.size, _MOST_STREAMED)
                    given = read_from(served.device, request.id, size)
                except QueueEmpty:
                    continue  # another read was faster
                # In linux-2.6.18, an empty answer means that the first record does not fit.
                if not (given.data if isinstance(given, Records) else given.events):
                    raise OSError(errno.EINVAL, f"the first record does not fit {size} bytes")
                frame = _frame(given)
                del given  # the frame has a copy, and the client may be slow
                await self._send(request.id, frame, more_follow=True)
                del frame  # for as long as nothing is queued
            self._shared.progressed()

    async def _sync(self, request: Sync) -> None:
        await self._shared.tree.fence()
        await self._reply(Done(id=request.id))

    async def _cursor(self, request: CursorOf) -> None:
        cursor = await required(self._shared.history).cursor(self.who, request.time)
        await self._reply(CursorIs(id=request.id, cursor=cursor))

    async def _since(self, request: Since, pending: Pending) -> None:
        asking = Asking(required(self._shared.history), self.who, request)
        async with asking.answer(pending, self._past_door, _frame) as frame, self._outlet:
            await self._send(request.id, frame)

    # Answers.

    async def _reply(self, answer: AnyAnswer) -> None:
        async with self._outlet:
            await self._send(answer.id, _frame(answer))
        self._shared.progressed()

    async def _send(self, number: int, frame: bytearray, more_follow: bool = False) -> None:
        """Send a request's answer; the caller has _outlet.

        Ends the session if the client is gone.
        """
        if not more_follow:  # from here on the client may use the number again
            self._waiting.pop(number, None)
        try:
            await self._outlet.send(frame)
        except trio.BrokenResourceError:
            self._scope.cancel()


def _frame(answer: AnyAnswer) -> bytearray:
    """Return an answer's frame; if that would be too long, the frame of an error that says so."""
    try:
        return encode(answer)
    except LocalProtocolError as too_long:
        return encode(Error(id=answer.id, errno=too_long.code, message=too_long.detail))


def _check_cancelled(waiting: Waiting) -> None:
    if waiting.cancelled:
        raise OSError(errno.ECANCELED, "the request was cancelled")


def _refused(request: AnyRequest, refusal: OSError) -> Error:
    code = refusal.errno or errno.EIO
    return Error(id=request.id, errno=code, message=refusal.strerror or os.strerror(code))
