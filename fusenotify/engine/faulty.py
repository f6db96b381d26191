# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices with faults on demand, which a mount made with --faults has instead of others.

server.faults makes these devices and sets their levers.  Other mounts make
none, and ordinary devices have no code for faults.

Invariants
    While no lever is set, this is an ordinary device, except that its watches
        never rest.
    Events keep their order, whichever are delayed and for however long.
    _dues has the due times of the newest queued events, one for each that is
        held back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fusenotify.engine.base_device import BaseDevice, Q, Shared
from fusenotify.engine.core import Inode
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.details import QueuedEvent
from fusenotify.engine.device import Device, Queued
from fusenotify.engine.exclusion import Exclusion
from fusenotify.engine.policy import Policy
from fusenotify.engine.watches import Watch, put_watch


@dataclass(slots=True)
class Levers:
    """Faults that stay set until they are used up or cleared.

    The next ``lose`` events that have a bit of lose_mask are lost, the next
    ``refuse`` calls of add_watch() fail with refuse_code (an errno), and events
    are held back for ``delay`` seconds.  0 turns each of them off.
    """

    lose: int = 0
    lose_mask: int = 0
    refuse: int = 0
    refuse_code: int = 0
    delay: float = 0.0

    def clear(self) -> None:
        """Turn all off."""
        self.lose = self.refuse = 0
        self.delay = 0.0

    def loses(self, mask: int) -> bool:
        """Return whether an event is to be lost, and count it if so."""
        if not self.lose or not self.lose_mask & mask:
            return False
        self.lose -= 1
        return True

    def refuses(self) -> bool:
        """Return whether an add_watch() is to fail, and count it if so."""
        if not self.refuse:
            return False
        self.refuse -= 1
        return True


class Faulty(BaseDevice[Q]):
    """A device with levers of its own, and levers shared by all devices of the mount.

    now is the clock, in seconds.  on_held is called for each event that is held
    back, with the time at which it may be read; at that time somebody has to call
    wake().
    """

    def __init__(
        self,
        table: Shared,
        policy: Policy,
        uid: int,
        max_events: int,
        *,
        shared: Levers,
        now: Callable[[], float],
        on_held: Callable[[float], None],
    ) -> None:
        super().__init__(table, policy, uid, max_events)
        self.levers = Levers()
        self._shared = shared
        self._now = now
        self._on_held = on_held
        self._limit = max_events
        self._dues: deque[float] = deque()

    # The faults.

    def overflow(self) -> None:
        """Be full with what is queued: queue IN_Q_OVERFLOW, and lose events until it is read."""
        self.max_events = min(self._limit, len(self._events))
        if not self._overflow_queued:
            self._queue_overflow()
            self._hold_newest()
            self._tell()

    def inject(self, wd: int, mask: int, cookie: int, name: bytes | None) -> None:
        """Queue an event that did not happen, unless it merges or the queue is full."""
        self._queue(_nobodys_watch(), wd, mask, cookie, name)

    def clear(self) -> None:
        """Be an ordinary device again."""
        self.levers.clear()
        self.max_events = self._limit
        self.release()

    def release(self) -> None:
        """Make the events that were held back readable, unless a lever still sets a delay."""
        if not self._delay():
            self._dues.clear()
            self.wake()

    def next_due(self) -> float | None:
        """Return when the next event that was held back may be read; None if there is none.

        Waiting readers have not been woken for it yet.
        """
        return self._dues[0] if self._dues else None

    def wake(self) -> None:
        """Wake waiting readers if there is something to read."""
        if not self.closed and self.poll():
            self._tell()

    # The operations of a process on an inotify descriptor.

    def add_watch(
        self,
        inode: Inode,
        mask: int,
        *,
        tree: bool = False,
        exclusion: Exclusion | None = None,
        ignored: int = 0,
    ) -> int:
        self._check_open()
        for levers in (self.levers, self._shared):
            if levers.refuses():
                raise OSError(levers.refuse_code, "this add_watch is refused by a fault (--faults)")
        return super().add_watch(inode, mask, tree=tree, exclusion=exclusion, ignored=ignored)

    def fionread(self) -> int:
        held = self._held()
        newest = (self._events[-number] for number in range(1, held + 1))
        return super().fionread() - sum(map(self._size_of, newest))

    def poll(self) -> bool:
        return super().poll() and len(self._events) > self._held()

    def close(self) -> None:
        self._dues.clear()
        super().close()

    # The functions that the core calls.

    def handle_event(
        self,
        watch: Watch,
        wd: int,
        mask: int,
        cookie: int,
        name: bytes | None,
        below: Inode | None = None,
    ) -> None:
        if self.levers.loses(mask) or self._shared.loses(mask):
            if not watch.attached:
                put_watch(watch)
        else:
            self._queue(watch, wd, mask, cookie, name, below)

    def _let_rest(self, watch: Watch, mask: int) -> None:
        """Do nothing: every event has to reach handle_event(), which counts it."""

    def _queue(
        self,
        watch: Watch,
        wd: int,
        mask: int,
        cookie: int,
        name: bytes | None,
        below: Inode | None = None,
    ) -> None:
        before = len(self._events)
        super().handle_event(watch, wd, mask, cookie, name, below)
        if len(self._events) > before:
            self._hold_newest()

    # Delay.

    @contextmanager
    def _hiding(self) -> Iterator[None]:
        """In the with block, which reads, keep only readable events in the queue."""
        hidden = [self._events.pop() for _ in range(self._held())]
        try:
            yield
        finally:
            self._events.extend(reversed(hidden))
            if not self._overflow_queued:
                self.max_events = self._limit

    def _delay(self) -> float:
        return self.levers.delay or self._shared.delay

    def _hold_newest(self) -> None:
        """Hold back the event that was queued last, if a delay is set."""
        delay = self._delay()
        if delay:
            due = self._now() + delay
            self._dues.append(due)
            self._on_held(due)

    def _held(self) -> int:
        """Return how many events are held back.  They are the newest ones."""
        now = self._now()
        while self._dues and self._dues[0] <= now:
            self._dues.popleft()
        return len(self._dues)

    def _tell(self) -> None:
        if self.on_queued is not None:
            self.on_queued()


class FaultyDevice(Faulty[Queued], Device):
    """A device with faults whose queue holds records."""

    def read(self, size: int) -> bytes:
        with self._hiding():
            return super().read(size)


class FaultyDetailedDevice(Faulty[QueuedEvent], DetailedDevice):
    """A device with faults whose queue holds detailed events.  Injected ones have no process."""

    def read_events(self, size: int) -> list[QueuedEvent]:
        with self._hiding():
            return super().read_events(size)

    def overflow(self) -> None:
        self._details.number()
        super().overflow()

    def inject(self, wd: int, mask: int, cookie: int, name: bytes | None) -> None:
        self._core.actor = None
        self._details.number(cookie)
        super().inject(wd, mask, cookie, name)


AnyFaultyDevice = FaultyDevice | FaultyDetailedDevice


def _nobodys_watch() -> Watch:
    """Return a watch for an event that came from no watch."""
    watch = Watch()
    watch.inode = Inode(is_dir=False)
    watch.attached = True
    return watch
