# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client: inotify's syscalls, over a mount's socket.

client.calls does the work; client.aio is the same with ``async``.
Threads may share a client and its devices.

Every request raises the errors of its syscall, as OSError with the kernel's
errno, and ConnectionLost (ECONNRESET) if the daemon is gone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sized
from types import TracebackType
from typing import Any, Generic, Literal, Self, overload

from typing_extensions import TypeVar

from fusenotify.client.calls import ClientLogic, DeviceLogic, as_it_is, unread_of
from fusenotify.client.common import READ_SIZE, AnyPath, check_flags, socket_name
from fusenotify.client.driver import run
from fusenotify.client.link import BLOCKING
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
    """A connection to a mount's daemon.

    semantics, mountpoint (bytes) and pid are those of the daemon, server is its
    name and version.  Closing a client closes its devices.
    """

    def __init__(self, socket: AnyPath) -> None:
        """Connect.

        Raises OSError: as connect(2), ETIMEDOUT if nobody answers,
        EPROTONOSUPPORT if the daemon speaks another version.
        """
        self._logic = ClientLogic(run(BLOCKING.connect, socket_name(socket)))
        self.semantics = self._logic.semantics
        self.mountpoint = self._logic.mountpoint
        self.pid = self._logic.pid
        self.server = self._logic.server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @overload
    def init(
        self,
        nonblock: bool = False,
        max_queued_events: int | None = None,
        semantics: str | None = None,
        *,
        detailed: Literal[False] = False,
    ) -> Device: ...

    @overload
    def init(
        self,
        nonblock: bool = False,
        max_queued_events: int | None = None,
        semantics: str | None = None,
        *,
        detailed: Literal[True],
    ) -> Device[tuple[DetailedEvent, ...]]: ...

    def init(
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
        return Device(run(self._logic.init, max_queued_events, semantics, unread), nonblock)

    def sync(self) -> None:
        """Wait until the events of everything done through the mount before are queued."""
        run(self._logic.sync)

    def notify(self, path: AnyPath, what: AnyMask = 0) -> None:
        """Report a change of SOURCE at a path that no kernel reports.

        path is relative to the mount's root.  what is a mask of IN_CREATE, IN_DELETE,
        IN_MODIFY, IN_ATTRIB and IN_CLOSE_WRITE; with 0, the daemon finds out what has changed.
        When the call returns, events are queued and the kernel has been told to forget the path.

        Raises OSError: EPERM for other users than root and the daemon's, EINVAL, ENOENT if
        nothing is there and nothing was known to be, ENOTDIR.
        """
        run(self._logic.notify, path, what)

    def cursor(self, time: int | None = None) -> str:
        """Return a cursor: the place in the mount's journal after everything done before.

        With a time, in ns since 1970, return the place before the first change that is not older.
        If the journal does not reach back so far, since() begins with a gap.

        A cursor is a string.  It can be stored, and passed to since() at any later time, also
        with a later daemon of the mount.

        Raises OSError: EOPNOTSUPP if the mount keeps no journal, EINVAL for a negative time,
        EPROTO if the daemon is too old.
        """
        return run(self._logic.cursor, time)

    def since(
        self,
        cursor: str,
        path: AnyPath = "/",
        *,
        follow: bool = False,
        exclude: Iterable[str | bytes] = (),
        ignore_self: bool = False,
    ) -> Generator[PastEvent, None, None]:
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
            past = run(self._logic.since, cursor, path, follow, kind)
            yield from past.events
            cursor, complete = past.cursor, past.complete

    def status(self) -> Status:
        """Return the mount's limits, and the clients, devices and users that we may see."""
        return run(self._logic.status)

    def limits(self) -> LimitsStatus:
        """Return the mount's limits."""
        return run(self._logic.limits)

    def set_limits(
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
        return run(self._logic.limits, *wanted)

    def fault(self, fault: AnyFault, device: int | None = None) -> None:
        """Cause a fault (fusenotify.protocol.faults) on a mount made with --faults.

        device is a Device's number; without it, the fault is for all of the mount.

        Raises OSError: EPERM if the mount has no faults or the user may not cause
        them, EBADF if there is no such device, EINVAL.
        """
        run(self._logic.fault, fault, device)

    def activity(self, since: int = 0) -> tuple[DetailedEvent, ...]:
        """Return the operations in the mount since a time (ns since 1970), oldest first.

        For a test's report, on a mount that remembers operations (activity of
        fusenotify.mounted()).  Each operation is an event with wd 0 and a path relative to
        the mount's root.  A rename is one event, and so are equal operations in a row.  An
        IN_Q_OVERFLOW at the beginning says how many older ones are forgotten.  The call is
        a fence, as sync() is.

        Raises OSError (EPERM) if the mount does not remember operations, or if the user is
        neither root nor the daemon's user.
        """
        return run(self._logic.activity, since)

    def close(self) -> None:
        """Close the connection.  Closing twice is harmless."""
        run(self._logic.close)


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def add_watch(
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
        return run(self._logic.add_watch, path, mask, kind_of(tree, exclude, ignore_self))

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) if there is no such watch.
        """
        run(self._logic.rm_watch, wd)

    def read(self, size: int = READ_SIZE, timeout: float | None = None) -> D:
        """Return whole records, at most size bytes; fusenotify.events.unpack() reads them.

        A detailed device returns events; DetailedEvent.size is the size of each.

        Waits for the first record, at most timeout seconds; without a timeout
        the wait has no limit.

        Raises OSError: EAGAIN (BlockingIOError) if none came in time, or none is
        there and the device is nonblock; EINVAL if the first one does not fit.
        """
        return run(self._logic.read, size, 0.0 if self.nonblock else timeout, as_it_is)

    def stream(self, size: int = READ_SIZE) -> Generator[D, None, None]:
        """Yield records or events as they arrive, at most size bytes at a time.

        The daemon sends them without being asked again.  While the caller is
        busy, events wait in the socket, then in the device's queue.  Closing
        the generator ends the stream.

        Raises OSError as read() does.
        """
        stream = run(self._logic.stream, size)
        try:
            while True:
                yield run(stream.next)
        finally:
            stream.close()

    def fionread(self) -> int:
        """Return how many bytes a read could return."""
        return run(self._logic.fionread)

    def poll(self, timeout: float | None = None) -> bool:
        """Return whether there is something to read, after waiting at most timeout seconds.

        Without a timeout the wait has no limit.
        """
        return run(self._logic.poll, timeout)

    def fileno(self) -> int:
        """Return a descriptor for select(2), asyncio's add_reader() and the like.

        It is readable while there is something to read, and sometimes without
        reason: when it is, read with timeout=0, or from a nonblock device.  It
        always stays the same, and has no other use.
        """
        return self._logic.fileno()

    def close(self) -> None:
        """Drop the watches and the queue.  Closing twice is harmless."""
        run(self._logic.close)
