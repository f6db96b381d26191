# SPDX-License-Identifier: GPL-2.0-or-later
"""The counts of events for ``fusenotify top``: by type, by directory, and by user and command.

cli.top.source passes on events from its own thread; cli.top takes a sample each time a
frame is due.

Invariants
    Each event counts once in each table; a rename that is one event counts as the two
        events that it is for inotify.
    Memory is bounded: a table that grows beyond twice MOST keeps the MOST busiest rows.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from fusenotify.bits import (
    IN_ISDIR,
    IN_MOVED_FROM,
    IN_Q_OVERFLOW,
    names,
)
from fusenotify.client import DetailedEvent

# How many directories and commands are remembered.
MOST = 10_000

K = TypeVar("K", bound=Hashable)


class Actor(NamedTuple):
    """The user and command that caused an event; None if unknown, or hidden from this user."""

    uid: int | None
    command: bytes | None


class Row(NamedTuple, Generic[K]):
    """The number of events of something: since the last sample, and in total."""

    what: K
    lately: int
    total: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The counts of the last so many seconds, and in total.

    events has the types by name, directories the directories by their paths from the
    watched one; these and actors have the busiest rows first.  seen counts the events
    that arrived, lost those for which the queue had no room.
    """

    seconds: float
    seen: Row[None]
    lost: Row[None]
    events: list[Row[str]]
    directories: list[Row[bytes]]
    actors: list[Row[Actor]]


class _Table(Generic[K]):
    """Counts of something, since the last sample and in total."""

    def __init__(self) -> None:
        self.lately: Counter[K] = Counter()
        self._total: Counter[K] = Counter()

    def sample(self, most: int) -> list[Row[K]]:
        """Return the busiest rows, and begin a new count of recent events."""
        lately, total = self.lately, self._total
        self.lately = Counter()
        total.update(lately)
        busiest = heapq.nlargest(most, total, key=lambda what: (lately[what], total[what]))
        if len(total) > 2 * MOST:
            self._total = Counter(dict(total.most_common(MOST)))
        return [Row(what, lately[what], total[what]) for what in busiest]


@dataclass
class Activity:
    """Counts the events that are passed to take(), which any thread may call."""

    _masks: _Table[int] = field(default_factory=_Table)
    _directories: _Table[bytes] = field(default_factory=_Table)
    _actors: _Table[Actor] = field(default_factory=_Table)
    _lost: _Table[None] = field(default_factory=_Table)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._since = time.monotonic()

    def take(self, events: Iterable[DetailedEvent]) -> None:
        """Count events."""
        masks, directories = self._masks, self._directories
        with self._lock:
            # These are looked up with the lock held, since sample() replaces them.
            by_mask, by_directory = masks.lately, directories.lately
            by_actor, lost = self._actors.lately, self._lost.lately
            for event in events:
                if event.mask & IN_Q_OVERFLOW:
                    lost[None] += event.lost or 0
                    continue
                actor = Actor(event.uid, event.command)
                path = event.path
                by_mask[event.mask] += 1
                by_directory[path.rpartition(b"/")[0] if path else b""] += 1
                by_actor[actor] += 1
                if event.old_path is not None:
                    by_mask[IN_MOVED_FROM] += 1
                    by_directory[event.old_path.rpartition(b"/")[0]] += 1
                    by_actor[actor] += 1

    def sample(self, most: int) -> Sample:
        """Return the counts since the last sample, with at most so many rows of each table."""
        with self._lock:
            now = time.monotonic()
            seconds, self._since = now - self._since, now
            masks = self._masks.sample(2 * MOST)
            lost = self._lost.sample(1)
            return Sample(
                seconds=seconds,
                seen=Row(None, sum(row.lately for row in masks), sum(row.total for row in masks)),
                lost=lost[0] if lost else Row(None, 0, 0),
                events=_by_name(masks)[:most],
                directories=self._directories.sample(most),
                actors=self._actors.sample(most),
            )


def _by_name(masks: Iterable[Row[int]]) -> list[Row[str]]:
    """Return the counts of types from those of masks; a mask of two types counts for both."""
    lately: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in masks:
        for name in names(row.what & ~IN_ISDIR):
            lately[name] += row.lately
            total[name] += row.total
    busiest = sorted(total, key=lambda name: (-lately[name], -total[name], name))
    return [Row(name, lately[name], total[name]) for name in busiest]
