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
from functools import partial

from fusenotify.bits import IN_DONT_FOLLOW, IN_IGNORED, IN_UNMOUNT
from fusenotify.client.calls import ClientLogic, DeviceLogic
from fusenotify.client.locate import Opened
from fusenotify.client.watched import ORDINARY
from fusenotify.events import Event, unpack
from fusenotify.protocol.connection import Call
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.messages import Error, Read, Records, WatchAdded
from fusenotify.protocol.unread import UnreadRecords
from fusenotify.run import tasks
from fusenotify.run.link import Link
from fusenotify.run.threads import close_inotify

_libc = ctypes.CDLL(None, use_errno=True)
# The size of the longest record: any record fits in a read of this size.
LONGEST_RECORD = 16 + 256
# How much is read at once from a daemon, before a trapped read and while listening.
_FENCED_SIZE = 1 << 20
_LISTENED_SIZE = 4096
_ANY_SIZE = 1 << 62
_BUSY_SECONDS = 0.05
# How long a read waits for a daemon to confirm that all events are queued.
_FENCE_SECONDS = 2.0


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
        """Wait until pull() returns all events of what happened before the call."""

    @abstractmethod
    def pull(self, size: int) -> list[Event]:
        """Take the events that are here; about size bytes of records if there are many."""

    @abstractmethod
    def close(self) -> None:
        """Drop watches and queue."""

    @abstractmethod
    def listen(self) -> None:
        """Call on_ready once, as soon as there is something to pull."""

    @abstractmethod
    async def _rm_watch(self, wd: int) -> None: ...


class MountSource(Source):
    """A device of a mount's daemon.

    A read is under way in the daemon while we listen, so records come by themselves; they wait
    in _records.  When the daemon is gone, the watches end as if the filesystem had been
    unmounted.
    """

    def __init__(
        self,
        next_wd: Callable[[], int],
        link: Link,
        device: DeviceLogic[bytes],
        records: UnreadRecords,
    ) -> None:
        super().__init__(next_wd)
        self.link = link
        self._device = device
        self._records = records
        self._listening = False
        self._is_lost = False  # and nobody was told
        self._is_over = False

    @classmethod
    async def made(
        cls,
        next_wd: Callable[[], int],
        link: Link,
        client: ClientLogic,
        max_queued_events: int | None,
        semantics: str | None,
    ) -> MountSource:
        """Return a source with a new device.

        Raises OSError: EMFILE, EPERM, ConnectionLost.
        """
        records = UnreadRecords()
        device = await client.init(max_queued_events, semantics, records)
        return cls(next_wd, link, device, records)

    @property
    def device(self) -> int:
        """The daemon's number of the device."""
        return self._device.number

    async def add_watch(self, target: Opened, mask: int) -> int:
        def note(added: WatchAdded) -> None:
            self.added(added.wd)

        return self.added(await self._device.add_watch(target, mask, ORDINARY, note))

    async def fence(self) -> None:
        fenced = True
        while not self._is_over:
            call = self._read(_FENCED_SIZE, 0.0, fence=fenced)
            if call is None:
                return
            take = partial(self._answer_to, call)
            try:
                records = await self.link.wait(call, take, _FENCE_SECONDS)
            except TimeoutError:
                return  # the events that are there are used
            if len(records) <= _FENCED_SIZE - LONGEST_RECORD:
                return
            fenced = False

    def pull(self, size: int) -> list[Event]:
        if self._records:
            return list(self.translated(self._records.take(_ANY_SIZE)))
        if not self._is_lost or self._is_over:
            return []
        self._is_over = True
        gone = list(self._own)
        self._own.clear()
        self._shown.clear()
        return [Event(wd, mask) for wd in gone for mask in (IN_UNMOUNT, IN_IGNORED)]

    def listen(self) -> None:
        if self._listening or self._is_over:
            return
        self._listening = True
        call = None if self._records else self._read(_LISTENED_SIZE, None)
        if call is None:
            asyncio.get_running_loop().call_soon(self._came)
        else:
            self.link.when_answered(call, partial(self._answered, call))

    def close(self) -> None:
        self._is_over = True
        tasks.start(self._close())

    def _read(self, size: int, timeout: float | None, *, fence: bool = False) -> Call | None:
        """Ask for records; return None if the daemon is gone."""
        request = Read(device=self.device, size=size, timeout=timeout, fence=fence)
        try:
            return self.link.send(request, self._records)
        except OSError:
            self._is_lost = True
            return None

    def _answered(self, call: Call) -> None:
        if isinstance(call.answer, Error) and call.answer.errno == errno.EBUSY:
            tasks.start(self._ask_later())
        else:
            self._answer_to(call)
            self._came()

    def _came(self) -> None:
        self._listening = False
        if not self._is_over:
            self.on_ready()

    async def _ask_later(self) -> None:
        """Ask from time to time, because too many requests wait in the daemon."""
        await asyncio.sleep(_BUSY_SECONDS)
        await self.fence()
        self._came()

    def _answer_to(self, call: Call) -> bytes:
        """Return the records that answered a read, which are in _records, too."""
        if isinstance(call.answer, Error) and call.answer.errno == errno.EAGAIN:
            return b""
        try:
            answer = call.take(Records)
        except (OSError, ProtocolError):  # ConnectionLost, EBADF: nothing will come any more
            self._is_lost = True
            return b""
        return b"" if answer is None else answer.data

    async def _close(self) -> None:
        with contextlib.suppress(OSError):
            await self._device.close()

    async def _rm_watch(self, wd: int) -> None:
        await self._device.rm_watch(wd)


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
        # A mask must not be empty; IN_UNMOUNT is reported to every watch in any case.
        plain = ctypes.c_uint32(mask & ~IN_DONT_FOLLOW or IN_UNMOUNT)
        return self.added(_called(_libc.inotify_add_watch, self._descriptor, path, plain))

    async def fence(self) -> None:
        """Do nothing: the kernel queues an event before the call that causes it returns."""

    def pull(self, size: int) -> list[Event]:
        try:
            return list(self.translated(os.read(self._descriptor, size)))
        except BlockingIOError:
            return []

    def listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._descriptor, self._ready)

    def _ready(self) -> None:
        self._unlisten()
        self.on_ready()

    def _unlisten(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)

    def close(self) -> None:
        self._unlisten()
        close_inotify(self._descriptor)

    async def _rm_watch(self, wd: int) -> None:
        _called(_libc.inotify_rm_watch, self._descriptor, wd)


def _called(function: Callable[..., int], *arguments: object) -> int:
    value = function(*arguments)
    if value < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return value
