# SPDX-License-Identifier: GPL-2.0-or-later
"""An inotify descriptor of a program: its sources, its queue, its pipe.

run.calls does what a system call asks of it.  Events wait in the sources (run.sources) until
the pipe has room; from then on they are in a queue (run.unread) whose oldest are in the
pipe (run.pipe), for whoever polls and for reads that are not trapped.

Invariants
    lock guards queue and pipe while somebody waits for a source.
    A trapped read finds what happened before it: it fences, and pulls all there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable

from fusenotify.events import Event
from fusenotify.run import tasks
from fusenotify.run.pipe import CAPACITY, Pipe
from fusenotify.run.sources import KernelSource, MountSource, Source
from fusenotify.run.unread import LINUX_6, RULES, Unread

# What a read of this size takes whole, whichever record comes first.
LONGEST_RECORD = 16 + 256
_PULL_SIZE = 1 << 20
# How long a read waits for a daemon to say that all is queued.
_FENCE_SECONDS = 2.0


class InotifyDescriptor:
    """What one inotify_init() made, whoever has copies of it.

    watches are the numbers of the program's that are in use.  on_events is called after
    something came that a trapped read may wait for.
    """

    def __init__(
        self,
        number: int,
        max_queued_events: int | None,
        semantics: str | None,
        kernel_limit: Callable[[], int],
    ) -> None:
        """Raises OSError: EMFILE, ENFILE."""
        self.number = number
        self.pipe = Pipe()
        self.lock = asyncio.Lock()
        self.on_events: Callable[[], object] = _nobody
        self.on_piped: Callable[[list[Event]], object] = _nobody
        self._last_wd = 0
        self._limit = CAPACITY
        self._torn = 0
        self._pumping = False
        self._again = False
        self._closed = False
        self._chosen_limit = max_queued_events
        self._kernel_limit = kernel_limit
        self._unread = Unread(
            RULES.get(semantics or "", LINUX_6),
            kernel_limit() if max_queued_events is None else max_queued_events,
        )
        self._sources: list[Source] = []
        self._kernel: KernelSource | None = None

    # Watches.

    def watches(self) -> int:
        """Return how many watches there are, as far as is known."""
        return sum(len(source.watches()) for source in self._sources)

    def kernel(self) -> KernelSource:
        """Return the source for what is in no mount.

        Raises OSError: EMFILE, ENFILE.
        """
        if self._kernel is None:
            self._kernel = KernelSource(self._next_wd)
            self._follow(self._kernel)
        return self._kernel

    def of_mount(self, client: object) -> MountSource | None:
        """Return the source whose device is on a connection; None where there is none."""
        for source in self._sources:
            if isinstance(source, MountSource) and source.client is client:
                return source
        return None

    def follow_mount(self, source: MountSource, limit: int, semantics: str) -> None:
        """Take a new source, of a mount with this limit and semantics."""
        self._unread.rules = RULES.get(semantics, LINUX_6)
        if self._chosen_limit is None:
            self._unread.max_events = limit
        self._follow(source)

    def next_wd(self) -> int:
        """Return the program's number for a watch that is made now."""
        return self._next_wd()

    async def rm_watch(self, wd: int) -> None:
        """Remove a watch.

        Raises OSError: EINVAL.
        """
        for source in self._sources:
            if wd in source.watches():
                await source.rm_watch(wd)
                return
        raise OSError(errno.EINVAL, f"there is no watch {wd}")

    # Reading.

    async def refresh(self) -> None:
        """Have all queued here that happened before."""
        with contextlib.suppress(TimeoutError):  # what is here is better than nothing
            async with asyncio.timeout(_FENCE_SECONDS):
                for source in list(self._sources):
                    await source.fence()
        async with self.lock:
            for source in list(self._sources):
                while events := await source.pull(_PULL_SIZE):
                    self._unread.add(events)
            self._settle()

    def is_empty(self) -> bool:
        """Return whether nothing is unread."""
        return not self._unread and not self._torn

    def is_for_the_pipe(self, size: int) -> bool:
        """Return whether a read of that size gets from the pipe what it is to get."""
        if self._torn:
            return True
        if not self._unread:
            return size >= LONGEST_RECORD
        return size >= CAPACITY and self._unread.in_pipe == len(self._unread)

    def expect(self, size: int) -> None:
        """Prepare for a read of the pipe that takes so many bytes."""
        self._limit = min(self._limit, max(size, LONGEST_RECORD))

    def take(self, size: int) -> tuple[list[Event], int, bytes]:
        """Take the oldest records that fit.

        Returns the events, how many of them were in the pipe, and the bytes.

        Raises OSError: EINVAL where the first one does not fit.
        """
        self._settle()
        head = self._unread.head(size)
        in_pipe = min(self._unread.in_pipe, len(head))
        piped = b"".join(record for _, record in head[:in_pipe])
        if piped:
            got = self.pipe.take(len(piped))
            if got != piped:
                # Another read, one that is not trapped, was faster; this one gets what is left.
                self._settle()
                return ([], 0, got) if got or not self._unread else self.take(size)
        self._unread.take(len(head))
        self._refill()
        return [event for event, _ in head], in_pipe, b"".join(record for _, record in head)

    def put_back(self, events: list[Event]) -> None:
        """Queue again what reached nobody."""
        # Behind what is unread now: the process that was to read it is dead, and
        # another that has the descriptor cannot tell.
        self._unread.add(events)
        self._refill()

    def unread_bytes(self) -> int:
        """Return what FIONREAD says."""
        return self._unread.size() + self._torn

    # The pipe.

    def room_came(self) -> None:
        """Hear that the pipe may be empty."""
        self._settle()
        self._pump()

    def settle(self) -> None:
        """Have a look at what was read from the pipe."""
        self._settle()
        self._refill()
        self._pump()

    def close(self) -> None:
        """Drop everything; nobody has a copy any more."""
        if not self._closed:
            self._closed = True
            for source in self._sources:
                source.close()
            self.pipe.close()

    def _next_wd(self) -> int:
        self._last_wd += 1
        return self._last_wd

    def _follow(self, source: Source) -> None:
        self._sources.append(source)
        source.on_ready = self._pump
        source.listen()

    def _settle(self) -> None:
        if not self._closed:
            self._torn = self._unread.consumed(self.pipe.unread())

    def _refill(self) -> None:
        """Write into the pipe what it has room for."""
        if self._closed:
            return
        room = self._limit - self.pipe.unread()
        following = self._unread.next_for_pipe(room)
        if following and self.pipe.write(b"".join(record for _, record in following)):
            self._unread.written(len(following))
            self.on_piped([event for event, _ in following])

    def _pump(self) -> None:
        """Move what there is from the sources on, and listen for more."""
        if self._pumping:
            self._again = True
        elif not self._closed:
            self._pumping = True
            tasks.start(self._pump_all())

    async def _pump_all(self) -> None:
        try:
            while True:
                self._again = False
                await self._pump_once()
                if not self._again or self._closed:
                    break
        finally:
            self._pumping = False

    async def _pump_once(self) -> None:
        for source in list(self._sources):
            while not self._closed:
                async with self.lock:
                    self._settle()
                    self._refill()
                    if not self._wants_more():
                        break
                    events = await source.pull(CAPACITY)
                    self._unread.add(events)
                    self._refill()
                if not events:
                    source.listen()
                    break
        if self._unread:
            self.on_events()

    def _wants_more(self) -> bool:
        """Return whether the pipe would take another record; else events stay where they are."""
        if self._closed or self._unread.is_full():
            return False
        return self._unread.in_pipe == len(self._unread) and not self._torn_or_full()

    def _torn_or_full(self) -> bool:
        return bool(self._torn) or self._unread.size() + LONGEST_RECORD > self._limit


def _nobody(*_: object) -> None:
    """Tell nobody."""
