# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests of Client and Device, and the meaning of the daemon's answers.

client.blocking and client.aio.syscalls are the fronts; their docstrings
describe the methods.  A driver (client.driver) carries the requests.

Every request raises the errors of its syscall, as OSError with the kernel's
errno, and ConnectionLost (ECONNRESET) if the daemon is gone.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakMethod

from fusenotify.client.common import PAST_SIZE, AnyPath, check_flags, client_closed, deadline_of
from fusenotify.client.driver import Link
from fusenotify.client.readiness import Readiness
from fusenotify.client.watched import ORDINARY, Kind
from fusenotify.masks import AnyMask, plain
from fusenotify.protocol.connection import Call, ConnectionLost, Descriptor, wire_path
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.faults import AnyFault
from fusenotify.protocol.messages import (
    ActivityOf,
    AddWatch,
    AnyAnswer,
    AnyRequest,
    CauseFault,
    Close,
    Count,
    CursorIs,
    CursorOf,
    DeviceMade,
    Done,
    Events,
    Fionread,
    Init,
    LimitsAre,
    LimitsOf,
    Notify,
    Past,
    Poll,
    Read,
    RmWatch,
    Since,
    Status,
    StatusOf,
    Stream,
    Sync,
    WatchAdded,
)
from fusenotify.protocol.status import LimitsStatus
from fusenotify.protocol.unread import AnyUnread, Data, Unread, UnreadEvents, UnreadRecords

A = TypeVar("A", bound=AnyAnswer)
T = TypeVar("T")


async def ask(
    link: Link,
    request: AnyRequest,
    expected: type[A],
    on_answer: Callable[[A], object] | None = None,
    descriptor: Descriptor | None = None,
) -> A:
    """Send a request, and the descriptor if there is one, and return its answer.

    on_answer is called with the answer when it arrives, before any later
    answer is looked at, even if nobody waits for it any more.  It may be
    called twice with the same answer.

    Raises OSError for a refusal, ConnectionLost, RemoteProtocolError.
    """

    def tell(answer: AnyAnswer) -> None:
        if on_answer is not None and isinstance(answer, expected):
            on_answer(answer)

    call = link.send(request, None, None if on_answer is None else tell, descriptor)
    return await link.wait(call, partial(call.take, expected))


class ClientLogic:
    """A connection to a mount's daemon."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.semantics = link.welcome.semantics
        self.mountpoint = link.welcome.mountpoint
        self.pid = link.welcome.pid
        self.server = link.welcome.server

    async def init(
        self, max_queued_events: int | None, semantics: str | None, unread: Unread[Data]
    ) -> DeviceLogic[Data]:
        """Make a device: a detailed one if unread keeps events, else one that gives records."""
        request = Init(
            max_queued_events=max_queued_events,
            semantics=semantics,
            detailed=isinstance(unread, UnreadEvents),
        )
        made = await ask(self.link, request, DeviceMade)
        return DeviceLogic(self.link, made.device, unread)

    async def sync(self) -> None:
        await ask(self.link, Sync(), Done)

    async def notify(self, path: AnyPath, what: AnyMask) -> None:
        await ask(self.link, Notify(path=wire_path(path), what=plain(what) if what else 0), Done)

    async def cursor(self, time: int | None = None) -> str:
        return (await ask(self.link, CursorOf(time=time), CursorIs)).cursor

    async def since(self, cursor: str, path: AnyPath, wait: bool, kind: Kind = ORDINARY) -> Past:
        """Return some of what happened behind a cursor, and wait for the first of it."""
        if not isinstance(cursor, str):
            raise TypeError(f"a cursor is a str, not {cursor!r}")
        if not cursor.isascii():  # it may be no text at all
            raise OSError(errno.EINVAL, f"{cursor!r} is not a cursor")
        timeout = None if wait else 0.0
        request = Since(
            cursor=cursor,
            path=wire_path(path),
            size=PAST_SIZE,
            timeout=timeout,
            exclude=list(kind.exclude),
            ignore_self=kind.ignore_self,
        )
        return await ask(self.link, request, Past)

    async def status(self) -> Status:
        return await ask(self.link, StatusOf(), Status)

    async def limits(
        self,
        max_queued_events: int | None = None,
        max_user_watches: int | None = None,
        max_user_trees: int | None = None,
        max_user_instances: int | None = None,
    ) -> LimitsStatus:
        request = LimitsOf(
            max_queued_events=max_queued_events,
            max_user_watches=max_user_watches,
            max_user_trees=max_user_trees,
            max_user_instances=max_user_instances,
        )
        return (await ask(self.link, request, LimitsAre)).limits

    async def fault(self, fault: AnyFault, device: int | None) -> None:
        await ask(self.link, CauseFault(fault=fault, device=device), Done)

    async def activity(self, since: int) -> tuple[DetailedEvent, ...]:
        return (await ask(self.link, ActivityOf(since=since), Events)).events

    async def close(self) -> None:
        self.link.close()


class DeviceLogic(Generic[Data]):
    """A queue of events and its watches, by the number that the daemon gave it."""

    def __init__(self, link: Link, number: int, unread: Unread[Data]) -> None:
        self.number = number
        self._link = link
        self._unread = unread
        self._readiness: Readiness | None = None
        self._polled = False  # whether the last poll was answered, so that another is needed

    def fileno(self) -> int:
        if self._link.fileno() < 0:
            raise client_closed()
        readiness = self._readiness or Readiness()
        if self._readiness is None:
            self.report_to(readiness)
        return readiness.fileno()

    def report_to(self, readiness: Readiness) -> None:
        """Keep readiness readable while there is something to read, from now on."""
        readiness.follow(self._link.fileno())
        self._readiness = readiness
        self._polled = True
        self.report()

    def report(self) -> None:
        """Bring the readiness, if there is one, up to date with what can be read."""
        readiness = self._readiness
        if readiness is None:
            return
        try:
            readiness.clear()
            if self._unread:
                readiness.set()
            elif self._polled:
                self._polled = False
                # A weak reference, since the call may never end, and the descriptor must be
                # closed with this object.
                came = partial(_tell, WeakMethod(self._came))
                self._link.send(Poll(device=self.number), self._unread, came)
        except BaseException as error:
            self._polled = True  # the poll may not have been sent
            readiness.set()
            if not _is_the_links(error):
                raise

    def _came(self) -> None:
        """Note that there is something to read.  Any thread may call it, and call it twice."""
        self._polled = True
        if self._readiness is not None:
            self._readiness.set()

    async def add_watch(
        self,
        target: AnyPath | Descriptor,
        mask: AnyMask,
        kind: Kind,
        on_added: Callable[[WatchAdded], object] | None = None,
        *,
        past: bool = False,
    ) -> int:
        """Watch a path, or the object that a descriptor refers to; return the watch descriptor.

        on_added is called with the answer before any event of the watch is read.  past asks for
        the number of the journal's last entry before the watch.
        """
        if isinstance(target, Descriptor):
            path, descriptor = None, target
        else:
            path, descriptor = wire_path(target), None
        request = AddWatch(
            device=self.number,
            path=path,
            mask=plain(mask),
            tree=kind.tree,
            exclude=list(kind.exclude),
            ignore_self=kind.ignore_self,
            past=past,
        )
        return (await ask(self._link, request, WatchAdded, on_added, descriptor)).wd

    async def rm_watch(self, wd: int) -> None:
        await ask(self._link, RmWatch(device=self.number, wd=wd), Done)

    async def read(self, size: int, timeout: float | None, meaning: Callable[[Data], T]) -> T:
        """Return meaning(data) for the data that is read, at most size bytes.

        meaning is called in the order in which the data arrived.  If an
        exception strikes from outside, such as a signal handler's, the data
        is there for the next read.

        Raises OSError: EAGAIN (BlockingIOError) if nothing came within timeout
        seconds, EINVAL if the first record does not fit.
        """
        deadline = deadline_of(timeout)
        taken: T | _Spent
        while True:
            request = Read(device=self.number, size=size, timeout=timeout)
            call = self._link.send(request, self._unread)
            try:
                try:
                    taken = await self._link.wait(call, partial(_taken, call, size, meaning))
                finally:
                    self._link.give_up(call)  # it may have taken data that another call brought
                if not isinstance(taken, _Spent):
                    self.report()
                    return taken
            except BaseException:
                self._link.put_back(call)
                self.report()
                raise
            timeout = None if timeout is None else max(0.0, deadline - time.monotonic())

    async def stream(self, size: int) -> Streaming[Data]:
        call = self._link.send(Stream(device=self.number, size=size), self._unread)
        return Streaming(self._link, call, size)

    async def fionread(self) -> int:
        waiting: list[int] = []

        def tell(count: Count) -> None:
            waiting[:] = [count.bytes + self._unread.size()]

        await ask(self._link, Fionread(device=self.number), Count, tell)
        return waiting[0]

    async def poll(self, timeout: float | None) -> bool:
        call = self._link.send(Poll(device=self.number, timeout=timeout), self._unread)
        try:
            return await self._link.wait(call, call.take_ready)
        finally:
            self._link.give_up(call)  # data that another call brought may have ended the wait

    async def close(self) -> None:
        request = Close(device=self.number)
        if self._link.is_in_use_here():  # by the call that we interrupt: waiting would never end
            self._link.say(request)
            return
        with contextlib.suppress(ConnectionLost):  # then the device is gone too
            try:
                await ask(self._link, request, Done, lambda _: self._unread.close())
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise


class Streaming(Generic[Data]):
    """A stream under way."""

    def __init__(self, link: Link, call: Call, size: int) -> None:
        self._link = link
        self._call = call
        self._size = size

    async def next(self) -> Data:
        """Return the next records or events."""
        self._call.begin_taking()
        try:
            taken: Data = await self._link.wait(
                self._call, partial(self._call.take_records, self._size)
            )
            return taken
        except BaseException:
            self._link.put_back(self._call)
            raise

    def close(self) -> None:
        """End the stream.  The garbage collector may call this, in any thread."""
        self._link.give_up(self._call)


def unread_of(detailed: bool) -> AnyUnread:
    """Return the store for the events of a detailed device, or for another device's records.

    Raises TypeError if detailed is not a bool.
    """
    check_flags(detailed=detailed)
    return UnreadEvents() if detailed else UnreadRecords()


class _Spent:
    """The result of a read whose answer was taken by another read first."""


def _is_the_links(error: BaseException) -> bool:
    """Return whether the error is about the connection; then the next read raises it, too."""
    return isinstance(error, ConnectionLost | ProtocolError) or (
        isinstance(error, OSError) and error.errno in (errno.EBADF, errno.EDEADLK)
    )


def _tell(whom: WeakMethod[Callable[[], object]], _: AnyAnswer) -> None:
    """Call the method that the weak reference holds, if its object still exists."""
    hear = whom()
    if hear is not None:
        hear()


def _taken(call: Call, size: int, meaning: Callable[[Any], T]) -> T | _Spent | None:
    """Return what a read takes; _Spent if it has to ask again, None if it has to wait."""
    data = call.take_records(size)
    if data is not None:
        return meaning(data)
    return _Spent() if call.is_spent() else None


def as_it_is(data: Data) -> Data:
    """Return data unchanged: the meaning of a Device's read."""
    return data
