# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of all devices, whatever their queue holds: watches, limits, waiting readers.

engine.device has the device whose queue holds records, engine.detailed_device the
one whose queue holds detailed events.  Both queue the events that engine.core
passes to them, and return those that fit a read.

Invariants
    A watch counts against the user who made the device, from add_watch() to
        its last reference; the device itself counts from init() to close().
    Nothing blocks: a reader that wants to wait sets on_queued, and reads when
        that is called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Generic, TypeVar

from fusenotify.bits import IN_ONESHOT, IN_UNMOUNT
from fusenotify.credentials import Credentials
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.exclusion import Exclusion, Exclusions, Unwanted
from fusenotify.engine.limits import Limits, Users
from fusenotify.engine.paths import LONGEST_PATH, PathRoom
from fusenotify.engine.policy import Policy
from fusenotify.engine.resting import Rest, StandIn
from fusenotify.engine.statistics import Statistics
from fusenotify.engine.trees import TreeWatch
from fusenotify.engine.watches import Hearing, Watch
from fusenotify.errors import (
    DeviceClosed,
    InvalidMask,
    NoDirectory,
    TooManyTrees,
    TooManyWatches,
)

# How many watches of a device may rest.  A single read wakes all of them.
MOST_RESTING = 1000

# The items of a queue.
Q = TypeVar("Q")


class Shared:
    """Everything that the devices of a mount share, such as the core, limits and statistics."""

    def __init__(self, core: Core, limits: Limits, policy: Policy) -> None:
        self.core = core
        self.limits = limits
        self.policy = policy
        self.users = Users()
        self.exclusions = Exclusions()
        self.statistics = Statistics(core)
        self.rest = Rest(self.statistics, core.trees)


class BaseDevice(ABC, Generic[Q]):
    """One reader's event queue and watches.  Seed: struct inotify_device.

    uid is the user that the device counts against.  who has that user's
    credentials if they limit which events its tree watches get, otherwise None.
    max_events is the length of the queue in events, and is fixed.  overflows
    counts the IN_Q_OVERFLOW queued so far; merged and lost count the events that
    were dropped.  on_queued is called after an event was queued.  Watches of a
    device whose queue is full rest (engine.resting) until it is read.
    """

    # The length in bytes of the longest path that a read can return.
    longest_path = LONGEST_PATH

    def __init__(self, table: Shared, policy: Policy, uid: int, max_events: int) -> None:
        self.uid = uid
        self.who: Credentials | None = None
        self.policy = policy
        self.max_events = max_events
        self.closed = False
        self.on_queued: Callable[[], None] | None = None
        self.overflows = self.merged = self._dropped = 0
        self._users = table.users
        self._limits = table.limits
        self._statistics = table.statistics
        self._core = table.core
        self._handle = table.core.init(self, policy)
        self._events: deque[Q] = deque()
        self._newest_or_oldest = -1 if policy.merge_with_newest else 0
        # How many of the oldest events fionread() has added up already, and their bytes.
        self._sized = self._sized_bytes = 0
        self._overflow_queued: int = False
        self._paths = PathRoom(table.users, uid, self.longest_path)
        self._rest = table.rest
        # By the inode and whether it is a tree watch.
        self._resting: dict[tuple[Inode, bool], tuple[Watch, StandIn, int]] = {}
        self._asks_for_processes = False
        self._users.charge(uid, devices=1)
        table.core.queues.add(self)

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
        """Watch an inode, or change the existing watch on it, and return its wd.

        A tree watch gets the events of a directory and everything below it
        (engine.trees); it is separate from an ordinary watch on the same
        directory.  exclusion has the patterns of names whose events the watch
        does not get, ignored the id of a process whose events it does not get
        (0 for none).

        The caller has resolved the path and checked the permissions.  Masks that
        have to be refused before that are refused by check_mask().
        Seed: sys_inotify_add_watch(), create_watch().

        Raises InvalidMask (EINVAL), WatchExists (EEXIST), TooManyWatches and
        TooManyTrees (ENOSPC), NoDirectory (ENOTDIR), DeviceClosed (EBADF).
        """
        self._check_open()
        if tree and not inode.is_dir:
            raise NoDirectory("a tree watch needs a directory")
        self._wake(inode, tree)
        unwanted = None
        if exclusion is not None or ignored:
            unwanted = Unwanted(exclusion, ignored, self._core.details.process_of, self._lose)
        if ignored:
            self._ask_for_processes()
        wd = self._handle.find_update_watch(inode, mask, tree, unwanted)
        if wd is not None:
            return wd
        self._check_limits(tree)
        watch = Watch() if not tree else TreeWatch(self._hearing())
        watch.unwanted = unwanted
        wd = self._handle.add_watch(watch, inode, mask)
        self._users.charge(self.uid, watches=1, trees=int(tree))
        self._statistics.follow(inode, tree)
        return wd

    def check_mask(self, mask: int) -> None:
        """Refuse a mask that add_watch() must refuse before the path is looked at.

        Raises InvalidMask (EINVAL), DeviceClosed (EBADF).
        """
        reason = self.policy.refuses_at_once(mask)
        if reason:
            raise InvalidMask(reason)
        self._check_open()

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED is queued.  Seed: sys_inotify_rm_watch().

        Raises NoSuchWatch (EINVAL), DeviceClosed (EBADF).
        """
        self._check_open()
        watch = self._handle.get_watch(wd)
        self._wake(watch.inode, watch.tree)
        self._handle.remove_watch(watch)

    def fionread(self) -> int:
        """Return how many bytes are queued.  Seed: inotify_ioctl(FIONREAD).

        Raises DeviceClosed (EBADF).
        """
        self._check_open()
        queued = len(self._events)
        for event in islice(reversed(self._events), queued - self._sized):
            self._sized_bytes += self._size_of(event)
        self._sized = queued
        return self._sized_bytes

    def poll(self) -> bool:
        """Return whether there is something to read.  Seed: inotify_poll().

        Raises DeviceClosed (EBADF).
        """
        self._check_open()
        return bool(self._events)

    def close(self) -> None:
        """Drop the watches and the queue.  Closing twice is harmless.  Seed: inotify_release()."""
        if self.closed:
            return
        self.closed = True
        self._core.queues.discard(self)
        self._wake_all()
        self._handle.destroy()
        self._events.clear()
        self._paths.close()
        self._core.ask_for_processes(-self._asks_for_processes)
        self._users.charge(self.uid, devices=-1)
        if self.on_queued is not None:
            self.on_queued()  # wakes a waiting reader, which finds the device closed

    # The state that a process sees in /proc/PID/fdinfo.

    def queued(self) -> int:
        """Return how many events are queued."""
        return len(self._events)

    def watches(self) -> Iterable[Watch]:
        """Return the watches, oldest first."""
        return self._handle.watches()

    @property
    def lost(self) -> int:
        """The number of events that were dropped because the queue was full."""
        resting = self._resting.values()
        return self._dropped + sum(stand_in.dropped - since for _, stand_in, since in resting)

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
        raise NotImplementedError

    def destroy_watch(self, watch: Watch) -> None:
        """Subtract the watch from its user's count.  Seed: free_inotify_user_watch()."""
        self._users.charge(self.uid, watches=-1, trees=-int(watch.tree))
        self._statistics.unfollow(watch.inode, watch.tree)

    def lose(self) -> None:
        """Queue IN_Q_OVERFLOW, because events were lost before they came here."""
        if any(True for _ in self.watches()):
            self._core.details.number()
            self._lose()

    # The queue.

    @abstractmethod
    def _size_of(self, event: Q) -> int:
        """Return how many bytes of a read the queued item takes."""

    @abstractmethod
    def _lose(self, cookie: int = 0) -> bool:
        """Count an event as lost, and queue IN_Q_OVERFLOW; return whether it was queued."""

    @abstractmethod
    def _queue_overflow(self, cookie: int = 0) -> object:
        """Queue IN_Q_OVERFLOW for a lost event with that cookie."""

    def _count_lost(self, number: int) -> None:
        """Add the events that resting watches did not get to the lost ones."""
        self._dropped += number

    def _ask_for_processes(self) -> None:
        """Have the producers look up, from now on, the process to which a thread belongs."""
        if not self._asks_for_processes:
            self._asks_for_processes = True
            self._core.ask_for_processes(1)

    def _hearing(self) -> Hearing | None:
        """Return the rule for the events that our tree watches may get; None for all events."""
        return None if self.who is None else self._core.trees.hearing(self.who)

    def _check_limits(self, tree: bool) -> None:
        """Refuse a watch if the user has reached a limit.

        Raises TooManyWatches, TooManyTrees (ENOSPC).
        """
        limits, counts = self._limits, self._users.counts(self.uid)
        refusal: TooManyWatches | None = None
        if counts.watches >= (limit := limits.max_user_watches):
            refusal = TooManyWatches(f"user {self.uid} has max_user_watches = {limit} already")
        elif tree and counts.trees >= (limit := limits.max_user_trees):
            refusal = TooManyTrees(f"user {self.uid} has max_user_trees = {limit} already")
        if refusal is not None:
            if self.policy.refusal_takes_wd:
                self._handle.take_wd()
            raise refusal

    def _let_rest(self, watch: Watch, mask: int) -> None:
        """Let a watch rest if all its events will be dropped until somebody reads.

        A watch that is about to end does not rest: one that gets IN_IGNORED, its
        only event (IN_ONESHOT) or IN_UNMOUNT.
        """
        if (
            watch.attached
            and watch.unwanted is None  # a stand-in would count unwanted events, too
            and not watch.mask & IN_ONESHOT
            and not mask & IN_UNMOUNT
            and not self.policy.merge_into_full_queue
            and len(self._resting) < MOST_RESTING
        ):
            stand_in, since = self._rest.lay(watch, self._wake_watch)
            self._resting[watch.inode, watch.tree] = watch, stand_in, since

    def _wake_watch(self, watch: Watch) -> None:
        self._wake(watch.inode, watch.tree)

    def _wake(self, inode: Inode, tree: bool) -> None:
        """End the rest of the watch, or tree watch, on inode, if it rests."""
        resting = self._resting.pop((inode, tree), None)
        if resting is not None:
            watch, stand_in, since = resting
            self._count_lost(stand_in.dropped - since)
            self._rest.wake(watch, stand_in)

    def _wake_all(self) -> None:
        while self._resting:
            self._wake(*next(iter(self._resting)))

    def _check_open(self) -> None:
        if self.closed:
            raise DeviceClosed("the device was closed")
