# SPDX-License-Identifier: GPL-2.0-or-later
"""An inotify descriptor of a program: its sources, its queue and its pipe.

run.calls uses it to answer system calls.  Events wait in the sources (run.sources) until
the pipe has room.  Then they are moved to a queue (run.unread); the oldest events of the
queue are in the pipe (run.pipe) as well, for poll(2) and for reads that are not trapped.

Invariants
    A trapped read gets all events of what happened before it that fit: it sets a fence, and
        pulls everything.  So it does if those that are here fill it: to the kernel, what comes
        before a read is lost where the queue is full, even if that read makes room.
    lock guards the making of sources; nothing else waits while it changes something here.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from fusenotify.events import Event
from fusenotify.run.link import Link
from fusenotify.run.pipe import CAPACITY, Pipe
from fusenotify.run.sources import LONGEST_RECORD, KernelSource, MountSource, Source
from fusenotify.run.unread import LINUX_6, RULES, Unread

_PULL_SIZE = 1 << 20


class InotifyDescriptor:
    """What one inotify_init() made; any number of processes may have copies of it.

    number is its place among all of the run, owner the user whose instance it is.
    on_events is called when there are events, for which trapped reads may wait; on_readable is
    called with events, in their order, when they are written into the pipe, or taken before that.
    """

    def __init__(
        self,
        number: int,
        owner: int,
        max_queued_events: int | None,
        semantics: str | None,
        kernel_limit: Callable[[], int],
    ) -> None:
        """Raises OSError: EMFILE, ENFILE."""
        self.number = number
        self.owner = owner
        self.pipe = Pipe()
        self.lock = asyncio.Lock()
        self.on_events: Callable[[], object] = _nobody
        self.on_readable: Callable[[list[Event]], object] = _nobody
        self._last_wd = 0
        self._limit = CAPACITY
        self._piped = 0  # how many bytes are in the pipe, when it was last looked at
        self._torn = 0
        self._refreshing = 0
        self._closed = False
        self._chosen_limit = max_queued_events
        self._unread = Unread(
            RULES.get(semantics or "", LINUX_6),
            kernel_limit() if max_queued_events is None else max_queued_events,
        )
        self._sources: list[Source] = []
        self._kernel: KernelSource | None = None

    # Watches.

    def watches(self) -> int:
        """Return the number of watches.

        Watches that have ended count until their IN_IGNORED is pulled.
        """
        return sum(source.count() for source in self._sources)

    def kernel(self) -> KernelSource:
        """Return the source for objects outside of our mounts.

        Raises OSError: EMFILE, ENFILE.
        """
        if self._kernel is None:
            self._kernel = KernelSource(self.next_wd)
            self._follow(self._kernel)
        return self._kernel

    def of_mount(self, link: Link) -> MountSource | None:
        """Return the source that uses a connection; None if there is none."""
        for source in self._sources:
            if isinstance(source, MountSource) and source.link is link:
                return source
        return None

    def follow_mount(self, source: MountSource, limit: int, semantics: str) -> None:
        """Add a new source, of a mount with this limit and semantics."""
        self._unread.rules = RULES.get(semantics, LINUX_6)
        if self._chosen_limit is None:
            self._unread.max_events = limit
        self._follow(source)

    async def rm_watch(self, wd: int) -> None:
        """Remove a watch.

        Raises OSError: EINVAL.
        """
        for source in self._sources:
            if source.has(wd):
                await source.rm_watch(wd)
                return
        raise OSError(errno.EINVAL, f"there is no watch {wd}")

    # Reading.

    async def refresh(self) -> None:
        """Queue here all events of what happened before the call.  Call settle() after it."""
        self._refreshing += 1  # until the end, events need not come by themselves
        try:
            for source in list(self._sources):
                await source.fence()
        finally:
            self._refreshing -= 1
        if not self._closed:
            self._settle()
            for source in self._sources:
                while events := source.pull(_PULL_SIZE):
                    self._unread.add(events, self._settle)

    def is_empty(self) -> bool:
        """Return whether nothing is unread."""
        return not self._unread and not self._torn

    def is_for_the_pipe(self, size: int) -> bool:
        """Return whether a read of that size would get the right bytes from the pipe."""
        if self._torn:
            return True
        if not self._unread:
            return size >= LONGEST_RECORD
        return size >= CAPACITY and self._unread.in_pipe == len(self._unread)

    def expect(self, size: int) -> None:
        """Prepare for reads of size bytes: from now on the pipe holds no more than that."""
        self._limit = min(self._limit, max(size, LONGEST_RECORD))

    def take(self, *sizes: int) -> tuple[list[Event], bytes]:
        """Take the oldest records that fit in buffers of these sizes in bytes (Unread.head).

        Returns the events and the bytes.

        Raises OSError: EINVAL if the first record does not fit.
        """
        self._settle()
        head = self._unread.head(*sizes)
        in_pipe = min(self._unread.in_pipe, len(head))
        piped = b"".join(record for _, record in head[:in_pipe])
        if piped:
            got = self.pipe.take(len(piped))
            self._piped -= len(got)
            if got != piped:
                # Another read, which was not trapped, was faster; this one gets the rest.
                self._settle()
                return ([], got) if got or not self._unread else self.take(*sizes)
        self._unread.take(len(head))
        events = [event for event, _ in head]
        self.on_readable(events[in_pipe:])
        self._refill()
        return events, b"".join(record for _, record in head)

    def put_back(self, events: list[Event]) -> None:
        """Queue events that were taken again, before the others."""
        self._settle()
        self.pipe.take(self._piped)
        self._piped = self._torn = 0
        self._unread.put_back(events)
        self._refill()

    def unread_bytes(self) -> int:
        """Return the number of unread bytes, as FIONREAD does."""
        return self._unread.size() + self._torn

    # The pipe.

    def room_came(self) -> None:
        """Refill the pipe, which may be empty now."""
        self._pump()

    def settle(self) -> None:
        """Refill the pipe, and listen for more if it has room."""
        self._refill()
        if self._wants_more():
            for source in self._sources:
                source.listen()

    def close(self) -> None:
        """Close the sources and the pipe.  Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            for source in self._sources:
                source.close()
            self.pipe.close()

    def next_wd(self) -> int:
        """Return a new watch descriptor for the program."""
        self._last_wd += 1
        return self._last_wd

    def _follow(self, source: Source) -> None:
        self._sources.append(source)
        source.on_ready = self._pump
        source.listen()

    def _settle(self) -> None:
        """Find out how much was read from the pipe."""
        if self._piped and not self._closed:
            self._piped = self.pipe.unread()
            self._torn = self._unread.consumed(self._piped)

    def _refill(self) -> None:
        """Write into the pipe the events for which it has room."""
        if self._closed:
            return
        following = self._unread.next_for_pipe(self._limit - self._piped)
        records = b"".join(record for _, record in following)
        if records and self.pipe.write(records):
            self._piped += len(records)
            self._unread.written(len(following))
            self.on_readable([event for event, _ in following])

    def _pump(self) -> None:
        """Move events from the sources to the pipe, and listen for more."""
        if self._closed:
            return
        self._settle()
        while self._wants_more() and not self._refreshing:
            events = [event for source in self._sources for event in source.pull(CAPACITY)]
            if not events:
                break
            self._unread.add(events, self._settle)
        if self._unread:
            self.on_events()
        self.settle()

    def _wants_more(self) -> bool:
        """Return whether the pipe has room for another record.

        Otherwise events stay in their sources.
        """
        if self._closed or self._torn or self._unread.is_full():
            return False
        return self._unread.size() + LONGEST_RECORD <= self._limit


def _nobody(*_: object) -> None:
    """Do nothing: the callback is not set yet."""
