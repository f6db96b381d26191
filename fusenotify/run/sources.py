# SPDX-License-Identifier: GPL-2.0-or-later
"""The sources of a descriptor's events: mounts' daemons, and the kernel's own inotify.

run.descriptor has any number of them.  Each source has watch descriptors of its own, and
translates them to the program's, which are unique among all sources.

Invariant
    A watch is in the table before an event names it, until its IN_IGNORED was translated.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from fusenotify.bits import IN_DONT_FOLLOW, IN_IGNORED, IN_UNMOUNT
from fusenotify.client.calls import ClientLogic, DeviceLogic, as_it_is, unread_of
from fusenotify.client.locate import Opened
from fusenotify.client.watched import ORDINARY
from fusenotify.events import Event, unpack
from fusenotify.protocol.connection import ConnectionLost
from fusenotify.protocol.faults import AnyFault
from fusenotify.protocol.messages import WatchAdded
from fusenotify.run import tasks

_libc = ctypes.CDLL(None, use_errno=True)
# A buffer of this size holds any record.
_LEAST_SIZE = 512


class Source(ABC):
    """One queue of events, and its watches.  on_ready is called when there may be events."""

    on_ready: Callable[[], object]

    def __init__(self, next_wd: Callable[[], int]) -> None:
        self._next_wd = next_wd
        # The program's numbers of the watches by ours, and ours by the program's.
        self._shown: dict[int, int] = {}
        self._own: dict[int, int] = {}

    def count(self) -> int:
        """Return the number of watches."""
        return len(self._shown)

    def has(self, shown: int) -> bool:
        """Return whether a watch has the number shown in the program."""
        return shown in self._own

    def added(self, wd: int) -> int:
        """Return the program's number for a watch of this source; a new one for a new watch."""
        if wd not in self._shown:
            self._shown[wd] = shown = self._next_wd()
            self._own[shown] = wd
        return self._shown[wd]

    def translated(self, records: bytes) -> Iterator[Event]:
        """Yield the events in records, with the program's watch descriptors."""
        for event in unpack(records):
            wd = self._shown.get(event.wd, event.wd if event.wd < 0 else 0)
            if event.mask & IN_IGNORED:
                self._own.pop(self._shown.pop(event.wd, 0), None)
            if wd:
                yield event._replace(wd=wd)

    async def rm_watch(self, shown: int) -> None:
        """Remove the watch that has the number shown in the program.

        Raises OSError: EINVAL.
        """
        wd = self._own.get(shown)
        if wd is None:
            raise OSError(errno.EINVAL, f"there is no watch {shown}")
        await self._rm_watch(wd)

    async def take_back(self, shown: int) -> None:
        """Remove a watch of which the program never hears anything."""
        wd = self._own.pop(shown, None)
        if wd is not None:
            del self._shown[wd]
            with contextlib.suppress(OSError):  # it has ended meanwhile
                await self._rm_watch(wd)

    @abstractmethod
    async def add_watch(self, target: Opened, mask: int) -> int:
        """Watch an open object, and return the program's number of the watch.

        Raises OSError, as inotify_add_watch(2) does, and ConnectionLost.
        """

    @abstractmethod
    async def fence(self) -> None:
        """Wait until all events of what happened before the call are queued."""

    @abstractmethod
    async def pull(self, size: int) -> list[Event]:
        """Take up to size bytes of records out of the queue, at least one if there are any."""

    @abstractmethod
    def close(self) -> None:
        """Drop watches and queue."""

    @abstractmethod
    def listen(self) -> None:
        """Call on_ready once, as soon as there is something to pull."""

    @abstractmethod
    def is_listening(self) -> bool:
        """Return whether on_ready will be called."""

    @abstractmethod
    async def _rm_watch(self, wd: int) -> None: ...


class MountSource(Source):
    """A device of a mount's daemon.

    When the daemon is gone, the watches end as if the filesystem had been unmounted.
    """

    def __init__(
        self, next_wd: Callable[[], int], client: ClientLogic, device: DeviceLogic[bytes]
    ) -> None:
        super().__init__(next_wd)
        self.client = client
        self._device = device
        self._listening: asyncio.Task[None] | None = None
        self.is_lost = False

    @classmethod
    async def made(
        cls,
        next_wd: Callable[[], int],
        client: ClientLogic,
        max_queued_events: int | None,
        semantics: str | None,
    ) -> MountSource:
        """Return a source with a new device.

        Raises OSError: EMFILE, EPERM, ConnectionLost.
        """
        device = await client.init(max_queued_events, semantics, unread_of(False))
        return cls(next_wd, client, device)

    async def fault(self, fault: AnyFault) -> None:
        """Cause a fault of the device.

        Raises OSError: EPERM where the mount was made without --faults.
        """
        await self.client.fault(fault, self._device.number)

    async def add_watch(self, target: Opened, mask: int) -> int:
        def note(added: WatchAdded) -> None:
            self.added(added.wd)

        return self.added(await self._device.add_watch(target, mask, ORDINARY, note))

    async def fence(self) -> None:
        if not self.is_lost:
            with contextlib.suppress(ConnectionLost):
                await self.client.sync()

    async def pull(self, size: int) -> list[Event]:
        if self.is_lost:
            return []
        try:
            records = await self._device.read(max(size, _LEAST_SIZE), 0.0, as_it_is)
        except BlockingIOError:
            return []
        except OSError:  # ConnectionLost, EBADF: nothing will come any more
            return self._ended()
        return list(self.translated(records))

    def listen(self) -> None:
        if self._listening is None and not self.is_lost:
            self._listening = tasks.start(self._listen())

    def is_listening(self) -> bool:
        return self._listening is not None or self.is_lost

    async def _listen(self) -> None:
        with contextlib.suppress(OSError):  # pull() says what it is
            await self._device.poll(None)
        self._listening = None
        self.on_ready()

    def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        self.is_lost = True
        tasks.start(self._close())

    async def _close(self) -> None:
        with contextlib.suppress(OSError):
            await self._device.close()

    async def _rm_watch(self, wd: int) -> None:
        await self._device.rm_watch(wd)

    def _ended(self) -> list[Event]:
        self.is_lost = True
        gone = list(self._own)
        self._own.clear()
        self._shown.clear()
        return [Event(wd, mask) for wd in gone for mask in (IN_UNMOUNT, IN_IGNORED)]


class KernelSource(Source):
    """A kernel's inotify descriptor of ours, for objects outside of fusenotify's mounts."""

    def __init__(self, next_wd: Callable[[], int]) -> None:
        """Raises OSError: EMFILE, ENFILE."""
        super().__init__(next_wd)
        self._descriptor = _called(_libc.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop = asyncio.get_running_loop()
        self._listening = False

    async def add_watch(self, target: Opened, mask: int) -> int:
        # The link in /proc leads to the object itself, even if that is a symbolic link.
        path = b"/proc/self/fd/%d" % target.number
        plain = ctypes.c_uint32(mask & ~IN_DONT_FOLLOW)
        return self.added(_called(_libc.inotify_add_watch, self._descriptor, path, plain))

    async def fence(self) -> None:
        """Do nothing: the kernel queues an event before the call that causes it returns."""

    async def pull(self, size: int) -> list[Event]:
        try:
            return list(self.translated(os.read(self._descriptor, max(size, _LEAST_SIZE))))
        except BlockingIOError:
            return []

    def listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._descriptor, self._ready)

    def is_listening(self) -> bool:
        return self._listening

    def _ready(self) -> None:
        self._unlisten()
        self.on_ready()

    def _unlisten(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)

    def close(self) -> None:
        self._unlisten()
        os.close(self._descriptor)

    async def _rm_watch(self, wd: int) -> None:
        _called(_libc.inotify_rm_watch, self._descriptor, wd)


def _called(function: Callable[..., int], *arguments: object) -> int:
    value = function(*arguments)
    if value < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return value
