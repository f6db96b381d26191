# SPDX-License-Identifier: GPL-2.0-or-later
"""The async client: inotify's syscalls, over a mount's socket.

client.aio.link carries the requests; client.blocking has the same without
``async``.

Errors are those of the syscalls, OSError with the kernel's errno, whatever is
asked; beside them ConnectionLost (ECONNRESET) where the daemon is gone.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncGenerator
from functools import partial
from types import TracebackType
from typing import Self

import anyio

from fusenotify.client.aio.link import Link
from fusenotify.client.common import (
    HELLO_SECONDS,
    READ_SIZE,
    AnyPath,
    connect_refusal,
    no_answer,
    socket_name,
)
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
    """A connection to a mount's daemon, from ``async with`` or connect() on.

    semantics, mountpoint (bytes) and pid are what the daemon says of itself,
    server its name and version.  Closing a client closes its devices.
    """

    semantics: str
    mountpoint: bytes
    pid: int
    server: str

    def __init__(self, socket: AnyPath) -> None:
        self._socket = socket
        self._opened: Link | None = None

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

        Raises OSError: as connect(2), ETIMEDOUT where nobody answers,
        EPROTONOSUPPORT where the daemon speaks another version.
        """
        name = socket_name(self._socket)
        try:
            with anyio.fail_after(HELLO_SECONDS):
                try:
                    stream = await anyio.connect_unix(name)
                except OSError as error:
                    raise connect_refusal(error, name) from None
                link = Link(name, stream)
                try:
                    welcome = await link.hello()
                except BaseException:
                    await link.close()
                    raise
        except TimeoutError:
            raise no_answer(name) from None
        self.semantics = welcome.semantics
        self.mountpoint = welcome.mountpoint
        self.pid = welcome.pid
        self.server = welcome.server
        self._opened = link

    async def init(
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
        made = await self._link.ask(request, DeviceMade)
        return Device(self._link, made.device, nonblock)

    async def sync(self) -> None:
        """Return when the events of what was done through the mount before are queued."""
        await self._link.ask(Sync(), Done)

    async def status(self) -> Status:
        """Return the mount's limits, clients, devices and users, as far as we may see them."""
        return await self._link.ask(StatusOf(), Status)

    async def fault(self, fault: AnyFault, device: int | None = None) -> None:
        """Cause a fault (fusenotify.protocol.faults) on a mount made with --faults.

        device is a Device's number; without one it is for all of the mount.

        Raises OSError: EPERM where the mount or the user may not, EBADF where
        there is no such device, EINVAL.
        """
        await self._link.ask(CauseFault(fault=fault, device=device), Done)

    async def close(self) -> None:
        """Close the connection; a second close is nothing."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _link(self) -> Link:
        if self._opened is None:
            raise OSError(errno.ENOTCONN, "the client is not connected: use 'async with'")
        return self._opened


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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def add_watch(self, path: AnyPath, mask: int) -> int:
        """Watch a path, relative to the mount's root, and return the watch descriptor.

        Raises OSError as inotify_add_watch(2), and EXDEV where a symbolic
        link leads out of the mount.
        """
        request = AddWatch(device=self.number, path=wire_path(path), mask=mask)
        return (await self._link.ask(request, WatchAdded)).wd

    async def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) where there is no such watch.
        """
        await self._link.ask(RmWatch(device=self.number, wd=wd), Done)

    async def read(self, size: int = READ_SIZE, timeout: float | None = None) -> bytes:
        """Return whole records, at most size bytes; fusenotify.events.unpack() reads them.

        Waits for the first one, at most timeout seconds where given.

        Raises OSError: EAGAIN (BlockingIOError) where none came in time or
        the device is nonblock, EINVAL where the first does not fit.
        """
        wait = 0.0 if self.nonblock else timeout
        request = Read(device=self.number, size=size, timeout=wait)
        call = await self._link.send(request, self._unread)
        try:
            return await self._link.wait(call, partial(call.take_records, size))
        finally:
            await self._link.give_up(call)  # where it took what came for another

    async def stream(self, size: int = READ_SIZE) -> AsyncGenerator[bytes, None]:
        """Yield records as they come, at most size bytes at a time, without asking for each.

        While the caller is busy, events wait in the socket, then in the
        device's queue.  Closing the generator ends the stream; who leaves the
        loop early uses contextlib.aclosing().

        Raises OSError as read() does.
        """
        call = await self._link.send(Stream(device=self.number, size=size), self._unread)
        try:
            while True:
                yield await self._link.wait(call, partial(call.take_records, size))
        finally:
            await self._link.give_up(call)

    async def fionread(self) -> int:
        """Return how many bytes of records wait to be read."""
        count = await self._link.ask(Fionread(device=self.number), Count)
        return count.bytes + len(self._unread)

    async def poll(self, timeout: float | None = None) -> bool:
        """Return whether there is something to read; wait for it, at most timeout seconds."""
        call = await self._link.send(Poll(device=self.number, timeout=timeout), self._unread)
        try:
            return await self._link.wait(call, call.take_ready)
        finally:
            await self._link.give_up(call)  # where something came for another

    async def close(self) -> None:
        """Drop watches and queue; a second close is nothing."""
        with contextlib.suppress(ConnectionLost):  # then the device is gone too
            try:
                await self._link.ask(Close(device=self.number), Done)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
