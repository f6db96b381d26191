# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client: inotify's syscalls, over a mount's socket.

client.calls is what it does; client.aio has the same with ``async``.
Threads may share a client and its devices.

Errors are those of the syscalls, OSError with the kernel's errno, whatever is
asked; beside them ConnectionLost (ECONNRESET) where the daemon is gone.
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
from fusenotify.protocol.status import LimitsStatus

# What a device gives.
D = TypeVar("D", bound=Sized, default=bytes)


class Client:
    """A connection to a mount's daemon.

    semantics, mountpoint (bytes) and pid are what the daemon says of itself,
    server its name and version.  Closing a client closes its devices.
    """

    def __init__(self, socket: AnyPath) -> None:
        """Connect.

        Raises OSError: as connect(2), ETIMEDOUT where nobody answers,
        EPROTONOSUPPORT where the daemon speaks another version.
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

        A read of a nonblock device never waits.  max_queued_events counts
        events; it and semantics default to the mount's.  A detailed one gives
        fusenotify.client.DetailedEvent where others give records (docs/reference/events.md).

        Raises OSError: EMFILE (max_user_instances), EINVAL, EPERM (a queue
        longer than the mount's), EPROTO where the daemon is too old for a detailed one.
        """
        check_flags(nonblock=nonblock)
        unread = unread_of(detailed)
        return Device(run(self._logic.init, max_queued_events, semantics, unread), nonblock)

    def sync(self) -> None:
        """Return when the events of what was done through the mount before are queued."""
        run(self._logic.sync)

    def status(self) -> Status:
        """Return the mount's limits, clients, devices and users, as far as we may see them."""
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
        """Set limits of the mount, those that are given, and return all as they are then.

        They count from the next request on: a limit below what a user has
        refuses only what is new, and a device keeps the queue that it was made
        with.

        Raises OSError: EPERM for those who are neither root nor the daemon's
        user, EINVAL for a number below 0 or above 2147483647; then nothing is set.
        """
        wanted = (max_queued_events, max_user_watches, max_user_trees, max_user_instances)
        return run(self._logic.limits, *wanted)

    def fault(self, fault: AnyFault, device: int | None = None) -> None:
        """Cause a fault (fusenotify.protocol.faults) on a mount made with --faults.

        device is a Device's number; without one it is for all of the mount.

        Raises OSError: EPERM where the mount or the user may not, EBADF where
        there is no such device, EINVAL.
        """
        run(self._logic.fault, fault, device)

    def close(self) -> None:
        """Close the connection; a second close is nothing."""
        run(self._logic.close)


class Device(Generic[D]):
    """A queue of events and its watches.  Linux: an inotify descriptor.

    number is the one that ``fusenotify status`` shows.  It gives records, bytes,
    or as a detailed device events.

    Every method raises OSError (EBADF) when the device or its client was closed.
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

        With tree it is a tree watch: it hears of a directory and all that is or
        will be below it, and names are paths from it (docs/reference/trees.md).

        Of what exclude names nothing is told, nor of what is below it: each
        pattern is a line of a .gitignore file in the watched directory.  With
        ignore_self nothing is told of what this process does itself.

        mask is an int, words such as ``"CREATE|DELETE"``, or a list of them.

        Raises OSError as inotify_add_watch(2), and EXDEV where a symbolic
        link leads out of the mount.
        """
        return run(self._logic.add_watch, path, mask, kind_of(tree, exclude, ignore_self))

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) where there is no such watch.
        """
        run(self._logic.rm_watch, wd)

    def read(self, size: int = READ_SIZE, timeout: float | None = None) -> D:
        """Return whole records, at most size bytes; fusenotify.events.unpack() reads them.

        A detailed device gives events (DetailedEvent.size says what each takes).

        Waits for the first one, at most timeout seconds where given.

        Raises OSError: EAGAIN (BlockingIOError) where none came in time or
        the device is nonblock, EINVAL where the first does not fit.
        """
        return run(self._logic.read, size, 0.0 if self.nonblock else timeout, as_it_is)

    def stream(self, size: int = READ_SIZE) -> Generator[D, None, None]:
        """Yield records or events as they come, at most size bytes at a time, unasked.

        While the caller is busy, events wait in the socket, then in the
        device's queue.  Closing the generator ends the stream.

        Raises OSError as read() does.
        """
        stream = run(self._logic.stream, size)
        try:
            while True:
                yield run(stream.next)
        finally:
            stream.close()

    def fionread(self) -> int:
        """Return how many bytes a read could give."""
        return run(self._logic.fionread)

    def poll(self, timeout: float | None = None) -> bool:
        """Return whether there is something to read; wait for it, at most timeout seconds."""
        return run(self._logic.poll, timeout)

    def fileno(self) -> int:
        """Return a descriptor for select(2), asyncio's add_reader() and their like.

        It is readable while a read has something to give, and at times for
        nothing: read a nonblock device, or with timeout=0, when it is.  It stays
        the same, and is for nothing else.
        """
        return self._logic.fileno()

    def close(self) -> None:
        """Drop watches and queue; a second close is nothing."""
        run(self._logic.close)
