# SPDX-License-Identifier: GPL-2.0-or-later
"""What Client and Device ask the daemon, and what its answers mean.

client.blocking and client.aio.syscalls are the fronts, which say what each
method is for; a driver (client.driver) carries the requests.

Errors are those of the syscalls, OSError with the kernel's errno, whatever is
asked; beside them ConnectionLost (ECONNRESET) where the daemon is gone.
"""

from __future__ import annotations

import contextlib
import errno
from functools import partial
from typing import TypeVar

from fusenotify.client.common import AnyPath
from fusenotify.client.driver import Link
from fusenotify.protocol.connection import Call, ConnectionLost, Unread, wire_path
from fusenotify.protocol.faults import AnyFault
from fusenotify.protocol.messages import (
    AddWatch,
    AnyAnswer,
    AnyRequest,
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

A = TypeVar("A", bound=AnyAnswer)


async def ask(link: Link, request: AnyRequest, expected: type[A]) -> A:
    """Send a request and return its answer.

    Raises OSError for a refusal, ConnectionLost, RemoteProtocolError.
    """
    call = await link.send(request)
    return await link.wait(call, partial(call.take, expected))


class ClientLogic:
    """A connection to a mount's daemon."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.semantics = link.welcome.semantics
        self.mountpoint = link.welcome.mountpoint
        self.pid = link.welcome.pid
        self.server = link.welcome.server

    async def init(self, max_queued_events: int | None, semantics: str | None) -> DeviceLogic:
        request = Init(max_queued_events=max_queued_events, semantics=semantics)
        made = await ask(self.link, request, DeviceMade)
        return DeviceLogic(self.link, made.device)

    async def sync(self) -> None:
        await ask(self.link, Sync(), Done)

    async def status(self) -> Status:
        return await ask(self.link, StatusOf(), Status)

    async def fault(self, fault: AnyFault, device: int | None) -> None:
        await ask(self.link, CauseFault(fault=fault, device=device), Done)

    async def close(self) -> None:
        await self.link.close()


class DeviceLogic:
    """A queue of events and its watches, by the number that the daemon gave it."""

    def __init__(self, link: Link, number: int) -> None:
        self.number = number
        self._link = link
        self._unread = Unread()

    async def add_watch(self, path: AnyPath, mask: int) -> int:
        request = AddWatch(device=self.number, path=wire_path(path), mask=mask)
        return (await ask(self._link, request, WatchAdded)).wd

    async def rm_watch(self, wd: int) -> None:
        await ask(self._link, RmWatch(device=self.number, wd=wd), Done)

    async def read(self, size: int, timeout: float | None) -> bytes:
        request = Read(device=self.number, size=size, timeout=timeout)
        call = await self._link.send(request, self._unread)
        try:
            return await self._link.wait(call, partial(call.take_records, size))
        finally:
            await self._link.give_up(call)  # where it took what came for another

    async def stream(self, size: int) -> Streaming:
        call = await self._link.send(Stream(device=self.number, size=size), self._unread)
        return Streaming(self._link, call, size)

    async def fionread(self) -> int:
        count = await ask(self._link, Fionread(device=self.number), Count)
        return count.bytes + len(self._unread)

    async def poll(self, timeout: float | None) -> bool:
        call = await self._link.send(Poll(device=self.number, timeout=timeout), self._unread)
        try:
            return await self._link.wait(call, call.take_ready)
        finally:
            await self._link.give_up(call)  # where something came for another

    async def close(self) -> None:
        with contextlib.suppress(ConnectionLost):  # then the device is gone too
            try:
                await ask(self._link, Close(device=self.number), Done)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise


class Streaming:
    """A stream under way."""

    def __init__(self, link: Link, call: Call, size: int) -> None:
        self._link = link
        self._call = call
        self._size = size

    async def next(self) -> bytes:
        """Return the next records."""
        return await self._link.wait(self._call, partial(self._call.take_records, self._size))

    async def close(self) -> None:
        """Want no more."""
        await self._link.give_up(self._call)
