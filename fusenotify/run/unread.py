# SPDX-License-Identifier: GPL-2.0-or-later
"""The events that a program has not read yet: one queue for the events of all sources.

The oldest events are in the program's pipe as well (run.descriptor).  Each device has a queue
of its own, where the kernel has one for the whole descriptor.  So the rules for merging and
overflow are applied here once more, to the events of all devices.

Invariants
    At most max_events events are queued, and an IN_Q_OVERFLOW after them.
    The oldest in_pipe events are in the pipe; these are never changed.
The module does no I/O.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.events import Event, pack


@dataclass(frozen=True, slots=True)
class Rules:
    """How a queue merges and overflows: rows of docs/reference/semantics.md under these names."""

    merge_with_newest: bool
    merge_compares_cookies: bool
    merge_into_full_queue: bool
    overflow_keeps_cookie: bool
    overflow_repeats: bool
    short_read_is_error: bool


LINUX_6 = Rules(True, False, False, False, False, True)
RULES = {"linux-6": LINUX_6, "linux-2.6.18": Rules(False, True, True, True, True, False)}


class Unread:
    """The queue."""

    def __init__(self, rules: Rules, max_events: int) -> None:
        self.rules = rules
        self.max_events = max_events
        self.in_pipe = 0
        self._events: deque[tuple[Event, bytes]] = deque()  # each with its record
        self._size = 0  # of all records, which may be thousands, in bytes
        self._overflows = 0  # how many IN_Q_OVERFLOW are queued

    def __len__(self) -> int:
        return len(self._events)

    def size(self) -> int:
        """Return how many bytes are unread."""
        return self._size

    def is_full(self) -> bool:
        """Return whether another event would be lost without another IN_Q_OVERFLOW."""
        return len(self._events) > self.max_events

    def add(self, events: Iterable[Event], look: Callable[[], object] | None = None) -> None:
        """Queue events as one device for all sources would.

        look is called before an event merges with one in the pipe, which may have been read
        from there already: then it calls consumed().
        """
        for event in events:
            if event.mask & IN_Q_OVERFLOW:
                self._overflow(event.cookie)
            elif not self._merges(event, look):
                if len(self._events) < self.max_events:
                    self._append(event)
                else:
                    self._overflow(event.cookie if self.rules.overflow_keeps_cookie else 0)

    def consumed(self, unread: int) -> int:
        """Drop the records that were read from the pipe, which still has unread bytes.

        A record that was read in part is dropped, too.  Returns how many of its bytes are
        still in the pipe.
        """
        left = sum(len(record) for _, record in self._piped())
        while left > unread:
            left -= len(self._pop()[1])
            self.in_pipe -= 1
        return unread - left

    def head(self, room: int, *others: int) -> list[tuple[Event, bytes]]:
        """Return the oldest whole records that fit in room bytes, without taking them.

        others are the sizes of further buffers, as of readv(2); each is used if the one before
        it is filled to the last byte.

        Raises OSError (EINVAL) if the first record does not fit and the rules say so.
        """
        found = []
        following = iter(others)
        for event, record in self._events:
            room -= len(record)
            if room < 0:
                break
            found.append((event, record))
            if not room:
                room = next(following, 0)
        if self._events and not found and self.rules.short_read_is_error:
            raise OSError(errno.EINVAL, "the buffer is too small for the first record")
        return found

    def take(self, count: int) -> None:
        """Remove the count oldest events."""
        for _ in range(count):
            self._pop()
        self.in_pipe = max(0, self.in_pipe - count)

    def put_back(self, events: Sequence[Event]) -> None:
        """Queue events again that were taken, before the others.

        The caller has emptied the pipe.
        """
        self.in_pipe = 0
        for event in reversed(events):
            record = pack(event)
            self._events.appendleft((event, record))
            self._size += len(record)
            self._overflows += bool(event.mask & IN_Q_OVERFLOW)

    def next_for_pipe(self, room: int) -> list[tuple[Event, bytes]]:
        """Return the events to write into the pipe, which has room bytes.

        The caller writes them and then calls written().
        """
        found = []
        for place in range(self.in_pipe, len(self._events)):
            event, record = self._events[place]
            room -= len(record)
            if room < 0:
                break
            found.append((event, record))
        return found

    def written(self, count: int) -> None:
        """Note that count more events were written into the pipe."""
        self.in_pipe += count

    def _piped(self) -> Iterable[tuple[Event, bytes]]:
        return (self._events[place] for place in range(self.in_pipe))

    def _merges(self, event: Event, look: Callable[[], object] | None) -> bool:
        rules = self.rules
        if not self._events:
            return False
        if len(self._events) >= self.max_events and not rules.merge_into_full_queue:
            return False
        other = self._events[-1 if rules.merge_with_newest else 0][0]
        if not rules.merge_compares_cookies:
            event = event._replace(cookie=other.cookie)
        if look is None or other != event or not self.in_pipe:
            return other == event
        look()
        return self._merges(event, None)

    def _append(self, event: Event) -> None:
        record = pack(event)
        self._events.append((event, record))
        self._size += len(record)

    def _overflow(self, cookie: int) -> None:
        if self.is_full() or (self._overflows and not self.rules.overflow_repeats):
            return
        self._overflows += 1
        self._append(Event(-1, IN_Q_OVERFLOW, cookie))

    def _pop(self) -> tuple[Event, bytes]:
        event, record = self._events.popleft()
        self._size -= len(record)
        if event.mask & IN_Q_OVERFLOW:
            self._overflows -= 1
        return event, record
