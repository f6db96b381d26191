# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client: inotify's syscalls, over a mount's socket.

client.link carries the requests; client.aio has the same with ``async``.
Threads may share a client and its devices.

Errors are those of the syscalls, OSError with the kernel's errno, whatever is
asked; beside them ConnectionLost (ECONNRESET) where the daemon is gone.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator
from functools import partial
from types import TracebackType
from typing import Self

from fusenotify.client.common import READ_SIZE, AnyPath, socket_name
from fusenotify.client.link import Link
from fusenotify.protocol.connection import ConnectionLost, Unread, wire_path
from fusenotify.protocol.faults import AnyFault
from fusenotify.protocol.messages import (
    AddWatch,
    CauseFault,
    Close,
    Count,
    DeviceMade,
    Done,
    Fionread,
    Init,
    Poll,
    Read,
    RmWatch,
    Status,
    StatusOf,
    Stream,
    Sync,
    WatchAdded,
)


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
        self._link = Link(socket_name(socket))
        welcome = self._link.welcome
        self.semantics = welcome.semantics
        self.mountpoint = welcome.mountpoint
        self.pid = welcome.pid
        self.server = welcome.server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def init(
        self,
        nonblock: bool = False,
        max_queued_events: int | None = None,
        semantics: str | None = None,
    ) -> Device:
        """Return a new device.  Linux: inotify_init1().

        A read of a nonblock device never waits.  max_queued_events counts
        events; it and semantics default to the mount's.

        Raises OSError: EMFILE (max_user_instances), EINVAL, EPERM (a queue
        longer than the mount's).
        """
        request = Init(max_queued_events=max_queued_events, semantics=semantics)
        return Device(self._link, self._link.ask(request, DeviceMade).device, nonblock)

    def sync(self) -> None:
        """Return when the events of what was done through the mount before are queued."""
        self._link.ask(Sync(), Done)

    def status(self) -> Status:
        """Return the mount's limits, clients, devices and users, as far as we may see them."""
        return self._link.ask(StatusOf(), Status)

    def fault(self, fault: AnyFault, device: int | None = None) -> None:
        """Cause a fault (fusenotify.protocol.faults) on a mount made with --faults.

        device is a Device's number; without one it is for all of the mount.

        Raises OSError: EPERM where the mount or the user may not, EBADF where
        there is no such device, EINVAL.
        """
        self._link.ask(CauseFault(fault=fault, device=device), Done)

    def close(self) -> None:
        """Close the connection; a second close is nothing."""
        self._link.close()


class Device:
    """A queue of events and its watches.  Linux: an inotify descriptor.

    number is the one that ``fusenotify status`` shows.

    Every method raises OSError (EBADF) when the device or its client was closed.
    """

    def __init__(self, link: Link, number: int, nonblock: bool) -> None:
        self.nonblock = nonblock
        self._link = link
        self.number = number
        self._unread = Unread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def add_watch(self, path: AnyPath, mask: int) -> int:
        """Watch a path, relative to the mount's root, and return the watch descriptor.

        Raises OSError as inotify_add_watch(2), and EXDEV where a symbolic
        link leads out of the mount.
        """
        request = AddWatch(device=self.number, path=wire_path(path), mask=mask)
        return self._link.ask(request, WatchAdded).wd

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) where there is no such watch.
        """
        self._link.ask(RmWatch(device=self.number, wd=wd), Done)

    def read(self, size: int = READ_SIZE, timeout: float | None = None) -> bytes:
        """Return whole records, at most size bytes; fusenotify.events.unpack() reads them.

        Waits for the first one, at most timeout seconds where given.

        Raises OSError: EAGAIN (BlockingIOError) where none came in time or
        the device is nonblock, EINVAL where the first does not fit.
        """
        wait = 0.0 if self.nonblock else timeout
        request = Read(device=self.number, size=size, timeout=wait)
        call = self._link.send(request, self._unread)
        try:
            return self._link.wait(call, partial(call.take_records, size))
        finally:
            self._link.give_up(call)  # where it took what came for another

    def stream(self, size: int = READ_SIZE) -> Generator[bytes, None, None]:
        """Yield records as they come, at most size bytes at a time, without asking for each.

        While the caller is busy, events wait in the socket, then in the
        device's queue.  Closing the generator ends the stream.

        Raises OSError as read() does.
        """
        call = self._link.send(Stream(device=self.number, size=size), self._unread)
        try:
            while True:
                yield self._link.wait(call, partial(call.take_records, size))
        finally:
            self._link.give_up(call)

    def fionread(self) -> int:
        """Return how many bytes of records wait to be read."""
        count = self._link.ask(Fionread(device=self.number), Count)
        return count.bytes + len(self._unread)

    def poll(self, timeout: float | None = None) -> bool:
        """Return whether there is something to read; wait for it, at most timeout seconds."""
        call = self._link.send(Poll(device=self.number, timeout=timeout), self._unread)
        try:
            return self._link.wait(call, call.take_ready)
        finally:
            self._link.give_up(call)  # where something came for another

    def close(self) -> None:
        """Drop watches and queue; a second close is nothing."""
        with contextlib.suppress(ConnectionLost):  # then the device is gone too
            try:
                self._link.ask(Close(device=self.number), Done)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
