# SPDX-License-Identifier: GPL-2.0-or-later
"""The async client: inotify's syscalls, over a mount's socket.

client.calls does the work; client.blocking is the same without ``async``.

Every request raises the errors of its syscall, as OSError with the kernel's
errno, and ConnectionLost (ECONNRESET) if the daemon is gone.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Iterable, Sized
from types import TracebackType
from typing import Any, Generic, Literal, Self, overload

from typing_extensions import TypeVar

from fusenotify.client.aio.link import connect
from fusenotify.client.calls import ClientLogic, DeviceLogic, as_it_is, unread_of
from fusenotify.client.common import HELLO_SECONDS, READ_SIZE, AnyPath, check_flags, socket_name
from fusenotify.client.watched import kind_of
from fusenotify.masks import AnyMask
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.faults import AnyFault
from fusenotify.protocol.messages import Status
from fusenotify.protocol.past import PastEvent
from fusenotify.protocol.status import LimitsStatus

# What a device's read returns.
D = TypeVar("D", bound=Sized, default=bytes)


class Client:
    """A connection to a mount's daemon, made by ``async with`` or connect().

    semantics, mountpoint (bytes) and pid are those of the daemon, server is its
    name and version.  Closing a client closes its devices.
    """

    semantics: str
    mountpoint: bytes
    pid: int
    server: str

    def __init__(self, socket: AnyPath) -> None:
        self._socket = socket_name(socket)
        self._connected: ClientLogic | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect.

        Raises OSError: as connect(2), ETIMEDOUT if nobody answers,
        EPROTONOSUPPORT if the daemon speaks another version.
        """
        link = await connect(self._socket, HELLO_SECONDS)
        self._connected = ClientLogic(link)
        self.semantics = self._connected.semantics
        self.mountpoint = self._connected.mountpoint
        self.pid = self._connected.pid
        self.server = self._connected.server

    @overload
    async def init(
        self,
        nonblock: bool = False,
        max_queued_events: int | None = None,
        semantics: str | None = None,
        *,
        detailed: Literal[False] = False,
    ) -> Device: ...

    @overload
    async def init(
        self,
        nonblock: bool = False,
        max_queued_events: int | None = None,
        semantics: str | None = None,
        *,
        detailed: Literal[True],
    ) -> Device[tuple[DetailedEvent, ...]]: ...

    async def init(
        self,
        nonblock: bool = False,
        max_queued_events: int | None = None,
        semantics: str | None = None,
        *,
        detailed: bool = False,
    ) -> Device[Any]:
        """Return a new device.  Linux: inotify_init1().

        A read of a nonblock device never waits.  max_queued_events is the
        length of its queue in events, semantics the name of its semantics
        (docs/reference/semantics.md); both default to the mount's.  The reads of a detailed
        device return fusenotify.client.DetailedEvent instead of records
        (docs/reference/events.md).

        Raises TypeError, OSError: EMFILE (max_user_instances), EINVAL, EPERM (a
        queue longer than the mount's), EPROTO if the daemon is too old for a
        detailed device.
        """
        check_flags(nonblock=nonblock)
        unread = unread_of(detailed)
        return Device(await self._logic.init(max_queued_events, semantics, unread), nonblock)

    async def sync(self) -> None:
        """Wait until the events of everything done through the mount before are queued."""
        await self._logic.sync()

    async def notify(self, path: AnyPath, what: AnyMask = 0) -> None:
        """Report a change of SOURCE at a path that no kernel reports.

        path is relative to the mount's root.  what is a mask of IN_CREATE, IN_DELETE,
        IN_MODIFY, IN_ATTRIB and IN_CLOSE_WRITE; with 0, the daemon finds out what has changed.
        When the call returns, events are queued and the kernel has been told to forget the path.

        Raises OSError: EPERM for other users than root and the daemon's, EINVAL, ENOENT if
        nothing is there and nothing was known to be, ENOTDIR.
        """
        await self._logic.notify(path, what)

    async def cursor(self, time: int | None = None) -> str:
        """Return a cursor: the place in the mount's journal after everything done before.

        With a time, in ns since 1970, return the place before the first change that is not older.
        If the journal does not reach back so far, since() begins with a gap.

        A cursor is a string.  It can be stored, and passed to since() at any later time, also
        with a later daemon of the mount.

        Raises OSError: EOPNOTSUPP if the mount keeps no journal, EINVAL for a negative time,
        EPROTO if the daemon is too old.
        """
        return await self._logic.cursor(time)

    async def since(
        self,
        cursor: str,
        path: AnyPath = "/",
        *,
        follow: bool = False,
        exclude: Iterable[str | bytes] = (),
        ignore_self: bool = False,
    ) -> AsyncGenerator[PastEvent, None]:
        """Yield the events after a cursor, oldest first, at and below a path.

        path is relative to the mount's root; no symbolic link in it is followed, and it need
        not exist any more.  Each event has the cursor after it.  If changes may be missing,
        there is an event with the mask IN_Q_OVERFLOW at their place, which says why (reason)
        and when (since, time).  With follow, the iterator waits for new events and goes on.
        exclude and ignore_self are those of Device.add_watch().

        Users other than root and the daemon's user get events only of names in directories that
        they may read, below directories that they may search, at the time of the call.

        Raises TypeError for a parameter of the wrong type; OSError: EOPNOTSUPP if the mount
        keeps no journal, EINVAL if the cursor is invalid, and for users who may not see all
        paths, the errors of add_watch for the path.
        """
        kind = kind_of(False, exclude, ignore_self)
        complete = False
        while follow or not complete:
            past = await self._logic.since(cursor, path, follow, kind)
            for event in past.events:
                yield event
            cursor, complete = past.cursor, past.complete

    async def status(self) -> Status:
        """Return the mount's limits, and the clients, devices and users that we may see."""
        return await self._logic.status()

    async def limits(self) -> LimitsStatus:
        """Return the mount's limits."""
        return await self._logic.limits()

    async def set_limits(
        self,
        *,
        max_queued_events: int | None = None,
        max_user_watches: int | None = None,
        max_user_trees: int | None = None,
        max_user_instances: int | None = None,
    ) -> LimitsStatus:
        """Set the limits that are given, and return all limits of the mount.

        They hold from the next request on.  Users who are above a new limit
        keep what they have and are refused more, and a device keeps the length
        of its queue.

        Raises OSError: EPERM for users other than root and the daemon's user,
        EINVAL for a number below 0 or above 2147483647.  Nothing is set then.
        """
        wanted = (max_queued_events, max_user_watches, max_user_trees, max_user_instances)
        return await self._logic.limits(*wanted)

    async def fault(self, fault: AnyFault, device: int | None = None) -> None:
        """Cause a fault (fusenotify.protocol.faults) on a mount made with --faults.

        device is a Device's number; without it, the fault is for all of the mount.

        Raises OSError: EPERM if the mount has no faults or the user may not cause
        them, EBADF if there is no such device, EINVAL.
        """
        await self._logic.fault(fault, device)

    async def activity(self, since: int = 0) -> tuple[DetailedEvent, ...]:
        """Return the operations in the mount since a time (ns since 1970), oldest first.

        For a test's report, on a mount that remembers operations (activity of
        fusenotify.mounted()).  Each operation is an event with wd 0 and a path relative to
        the mount's root.  A rename is one event, and so are equal operations in a row.  An
        IN_Q_OVERFLOW at the beginning says how many older ones are forgotten.  The call is
        a fence, as sync() is.

        Raises OSError (EPERM) if the mount does not remember operations, or if the user is
        neither root nor the daemon's user.
        """
        return await self._logic.activity(since)

    async def close(self) -> None:
        """Close the connection.  Closing twice is harmless."""
        if self._connected is not None:
            await self._connected.close()

    @property
    def _logic(self) -> ClientLogic:
        if self._connected is None:
            raise OSError(errno.ENOTCONN, "the client is not connected: use 'async with'")
        return self._connected


class Device(Generic[D]):
    """A queue of events and its watches.  Linux: an inotify descriptor.

    number is the one that ``fusenotify status`` shows.  Reads return records
    (bytes) or, for a detailed device, a tuple of DetailedEvent.

    Every method raises OSError (EBADF) if the device or its client was closed.
    """

    def __init__(self, logic: DeviceLogic[D], nonblock: bool) -> None:
        self.nonblock = nonblock
        self._logic = logic
        self.number = logic.number

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def add_watch(
        self,
        path: AnyPath,
        mask: AnyMask,
        *,
        tree: bool = False,
        exclude: Iterable[str | bytes] = (),
        ignore_self: bool = False,
    ) -> int:
        """Watch a path, relative to the mount's root, and return the watch descriptor.

        With tree it is a tree watch, on a directory and everything that is or
        will be below it; names are then paths from that directory
        (docs/reference/trees.md).

        exclude leaves out events of the names that it matches, and of
        everything below them: each pattern is a line of a .gitignore file in
        the watched directory.  With ignore_self, the watch leaves out
        everything that this process does.

        mask is an int, words such as ``"CREATE|DELETE"``, or a list of words.

        Raises TypeError for a parameter of the wrong type, ValueError for a word
        that names no event, OSError: as inotify_add_watch(2), and EXDEV if a
        symbolic link leads out of the mount.
        """
        return await self._logic.add_watch(path, mask, kind_of(tree, exclude, ignore_self))

    async def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) if there is no such watch.
        """
        await self._logic.rm_watch(wd)

    async def read(self, size: int = READ_SIZE, timeout: float | None = None) -> D:
        """Return whole records, at most size bytes; fusenotify.events.unpack() reads them.

        A detailed device returns events; DetailedEvent.size is the size of each.

        Waits for the first record, at most timeout seconds; without a timeout
        the wait has no limit.

        Raises OSError: EAGAIN (BlockingIOError) if none came in time, or none is
        there and the device is nonblock; EINVAL if the first one does not fit.
        """
        return await self._logic.read(size, 0.0 if self.nonblock else timeout, as_it_is)

    async def stream(self, size: int = READ_SIZE) -> AsyncGenerator[D, None]:
        """Yield records or events as they arrive, at most size bytes at a time.

        The daemon sends them without being asked again.  While the caller is
        busy, events wait in the socket, then in the device's queue.  Closing
        the generator ends the stream: use contextlib.aclosing() if the loop may
        be left early.

        Raises OSError as read() does.
        """
        stream = await self._logic.stream(size)
        try:
            while True:
                yield await stream.next()
        finally:
            stream.close()

    async def fionread(self) -> int:
        """Return how many bytes a read could return."""
        return await self._logic.fionread()

    async def poll(self, timeout: float | None = None) -> bool:
        """Return whether there is something to read, after waiting at most timeout seconds.

        Without a timeout the wait has no limit.
        """
        return await self._logic.poll(timeout)

    async def close(self) -> None:
        """Drop the watches and the queue.  Closing twice is harmless."""
        await self._logic.close()
