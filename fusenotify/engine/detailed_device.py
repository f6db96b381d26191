# SPDX-License-Identifier: GPL-2.0-or-later
"""The device whose queue holds detailed events, with their number in the mount's order and process.

It watches like every device (engine.base_device), and queues, merges and loses
events like engine.device, with these differences:

    If one watch gets both halves of a rename, they are one event, in the place
        of the first half.
    Events merge only if their processes, as far as the device's user may see
        them, are the same, too.  The number and time of the first event stay.
        Events with a cookie do not merge.
    Each gap has its own IN_Q_OVERFLOW, which counts the events lost in it.

Invariants
    At most max_events events are queued, followed by an IN_Q_OVERFLOW; any
        IN_Q_OVERFLOW before that one counts as an event.  There are fewer if
        there is no room for long paths (engine.paths).
    Numbers grow along the queue.
    The process of an event is in the queue only if the device's user may see
        it: root, who sees all, or the user who caused the event.
"""

from __future__ import annotations

from fusenotify.bits import (
    IN_IGNORED,
    IN_ISDIR,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
)
from fusenotify.credentials import Process
from fusenotify.engine.base_device import BaseDevice, Shared
from fusenotify.engine.core import Inode
from fusenotify.engine.details import QueuedEvent
from fusenotify.engine.paths import LONGEST_NAME
from fusenotify.engine.policy import Policy
from fusenotify.engine.watches import Watch, put_watch
from fusenotify.errors import BufferTooSmall, QueueEmpty
from fusenotify.events import DETAILED_SIZE, MOST_BYTES, detailed_size

# Events that tell a single watch that it ends.  They have no process.
_ENDS = IN_IGNORED | IN_UNMOUNT

# The process in events for clients that may not see which process changed SOURCE itself.
_SOMEBODY_BEHIND = Process(0, -1, -1, None, behind=True)


class DetailedDevice(BaseDevice[QueuedEvent]):
    """A device whose queue holds detailed events.

    sees_all says that its user may see the processes of all users.
    """

    longest_path = MOST_BYTES - DETAILED_SIZE

    def __init__(self, table: Shared, policy: Policy, uid: int, max_events: int) -> None:
        super().__init__(table, policy, uid, max_events)
        self.sees_all = not uid
        self._details = table.core.details
        # By wd, the place in the queue of the first half of the rename that is under way.
        self._moving: dict[int, int] = {}
        self._moving_cookie = 0
        table.core.ask_for_details(1)
        self._ask_for_processes()

    def read_events(self, size: int) -> list[QueuedEvent]:
        """Return as many events as fit size bytes, and remove them from the queue.

        events.detailed_size() is the size of an event.

        Raises QueueEmpty (EAGAIN), BufferTooSmall (EINVAL; linux-2.6.18
        returns nothing instead), DeviceClosed (EBADF).
        """
        self._check_open()
        queue = self._events
        if not queue:
            raise QueueEmpty("no event is queued")
        self._moving.clear()
        if self._resting:
            self._wake_all()  # so that the IN_Q_OVERFLOW counts the events that they missed
        events: list[QueuedEvent] = []
        room = size
        while queue:
            event = queue[0]
            taken = self._size_of(event)
            room -= taken
            if room < 0:
                break
            events.append(queue.popleft())
            if self._sized:
                self._sized -= 1
                self._sized_bytes -= taken
            if event.mask & IN_Q_OVERFLOW:
                self._overflow_queued -= 1
                self._paths.overflowed = False
            elif event.below is not None:
                for path in (event.path, event.old_path):
                    if path is not None and len(path) > LONGEST_NAME:
                        self._paths.give_back(path)
        if not events and self.policy.short_read_is_error:
            needed = self._size_of(queue[0])
            raise BufferTooSmall(f"the first event takes {needed} bytes, the buffer has {size}")
        return events

    def close(self) -> None:
        if not self.closed:
            self._core.ask_for_details(-1)
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
        """Queue an event.  Seed: inotify_dev_queue_event()."""
        if not watch.attached:
            put_watch(watch)
        details = self._details
        if mask & _ENDS:
            details.number()
            process = None
        else:
            process = self._shown(details.process(self._core.actor))
        is_dir = bool(mask & IN_ISDIR) or _is_a_directorys_own(watch, name)
        self._enqueue(watch, wd, mask, cookie, name, below, is_dir, process)

    def _enqueue(
        self,
        watch: Watch,
        wd: int,
        mask: int,
        cookie: int,
        path: bytes | None,
        below: Inode | None,
        is_dir: bool,
        process: Process | None,
    ) -> None:
        events = self._events
        excess = len(events) - self.max_events
        if cookie:
            if mask & IN_MOVED_TO and self._completes_rename(wd, mask, cookie, path, below):
                return
        elif events and (excess < 0 or self.policy.merge_into_full_queue):
            last = events[self._newest_or_oldest]
            if (
                last.mask == mask
                and last.wd == wd
                and last.path == path
                and last.below is below
                and last.process == process
            ):
                self.merged += 1
                self._statistics.merged += 1
                return
        if self._paths.overflowed or (
            below is not None
            and path is not None
            and len(path) > LONGEST_NAME
            and excess < 0
            and not self._paths.take(path)
        ):
            excess = max(excess, 0)
        if excess >= 0:
            if not self._lose():
                self._let_rest(watch, mask)
            return
        details = self._details
        if cookie and mask & IN_MOVED_FROM:
            if cookie != self._moving_cookie:
                self._moving_cookie = cookie
                self._moving.clear()
            self._moving[wd] = len(events)
        events.append(
            QueuedEvent(
                details.sequence, details.time, wd, mask, cookie, path, is_dir, process, below
            )
        )
        if self.on_queued is not None:
            self.on_queued()

    def _completes_rename(
        self, wd: int, mask: int, cookie: int, path: bytes | None, below: Inode | None
    ) -> bool:
        """Merge the second half of a rename into the queued first half, if there is room.

        Nobody can have read the queue since the first half was queued.
        """
        place = self._moving.pop(wd, None) if cookie == self._moving_cookie else None
        if place is None or path is None:
            return False
        first = self._events[place]
        old_path = first.path or b""
        if detailed_size(path, old_path) > MOST_BYTES:
            return False
        if below is not None and len(path) > LONGEST_NAME and not self._paths.take(path):
            return False
        first.mask, first.path, first.old_path = mask, path, old_path
        first.below = below or first.below
        return True

    def _lose(self, cookie: int = 0) -> bool:
        self._dropped += 1
        self._statistics.lost += 1
        newest = self._events[-1] if self._events else None
        if newest is None or newest.lost is None:
            newest = self._queue_overflow()
            newest.lost = 1
            if self.on_queued is not None:
                self.on_queued()
            return True
        newest.lost += 1
        return False

    def _queue_overflow(self, cookie: int = 0) -> QueuedEvent:
        details = self._details
        overflow = QueuedEvent(
            details.sequence, details.time, -1, IN_Q_OVERFLOW, 0, None, is_dir=False, lost=0
        )
        self._events.append(overflow)
        self._overflow_queued += 1
        self.overflows += 1
        self._statistics.overflows += 1
        return overflow

    def _count_lost(self, number: int) -> None:
        super()._count_lost(number)
        newest = self._events[-1]
        assert newest.lost is not None, "watches rest while their device's queue is full"
        newest.lost += number

    def _size_of(self, event: QueuedEvent) -> int:
        return detailed_size(event.path, event.old_path)

    def _shown(self, process: Process | None) -> Process | None:
        """Return the process, if our user may see it."""
        if self.sees_all or (process is not None and process.uid == self.uid):
            return process
        return _SOMEBODY_BEHIND if process is not None and process.behind else None


def _is_a_directorys_own(watch: Watch, name: bytes | None) -> bool:
    """Return whether an event is one of a directory itself, not of an entry in it."""
    return watch.inode.is_dir if name is None else name.endswith(b"/")
