# SPDX-License-Identifier: GPL-2.0-or-later
"""What every device is, whatever its queue holds: watches, limits, a reader who waits.

engine.device has the one whose queue holds records, engine.detailed_device that of
detailed events; both queue what engine.core tells them, and say what fits a read.

Invariants
    A watch counts against the user who made the device, from add_watch() to
        its last reference; the device itself likewise, from init() to close().
    Nothing blocks: who wants to wait sets on_queued and reads when called.
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

# How many watches of a device may rest: all of them wake at one read.
MOST_RESTING = 1000

# What a queue holds.
Q = TypeVar("Q")


class Shared:
    """What all devices of a mount share: the core, the limits, the users, the statistics."""

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

    uid is the user it counts against, who that user's credentials, where they
    bound what its tree watches hear.  max_events counts events and is fixed.
    overflows counts the IN_Q_OVERFLOW queued so far, merged and lost
    the events that were dropped.  on_queued is called after an event was queued.
    Watches of a device whose queue is full rest (engine.resting) until it is read.
    """

    # The most bytes of a path that a read can give.
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
        # So many of the oldest events were asked for by fionread() already, and take so much.
        self._sized = self._sized_bytes = 0
        self._overflow_queued: int = False
        self._paths = PathRoom(table.users, uid, self.longest_path)
        self._rest = table.rest
        # By the inode and whether it is a tree watch.
        self._resting: dict[tuple[Inode, bool], tuple[Watch, StandIn, int]] = {}
        self._asks_for_processes = False
        self._users.charge(uid, devices=1)

    # What a process does with an inotify descriptor.

    def add_watch(
        self,
        inode: Inode,
        mask: int,
        *,
        tree: bool = False,
        exclusion: Exclusion | None = None,
        ignored: int = 0,
    ) -> int:
        """Watch an inode, or change the watch there is, and return its wd.

        A tree watch hears of a directory and all below it (engine.trees); it is
        another watch than an ordinary one on the same directory.  exclusion are
        patterns of names that it is not told of, ignored is a process whose own
        doings it is not told of (0 for none).
        The caller has resolved the path and checked the permissions; a mask
        that is refused before that is refused by check_mask().
        Seed: sys_inotify_add_watch(), create_watch().

        Raises InvalidMask (EINVAL), WatchExists (EEXIST), TooManyWatches and
        TooManyTrees (ENOSPC), NoDirectory (ENOTDIR), DeviceClosed (EBADF).
        """
        self._check_open()
        if tree and not inode.is_dir:
            raise NoDirectory("a tree watch stands on a directory")
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
        """Refuse what add_watch() would refuse before it looks at the path.

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
        """Return whether a read would find something.  Seed: inotify_poll().

        Raises DeviceClosed (EBADF).
        """
        self._check_open()
        return bool(self._events)

    def close(self) -> None:
        """Drop watches and queue; a second close is nothing.  Seed: inotify_release()."""
        if self.closed:
            return
        self.closed = True
        self._wake_all()
        self._handle.destroy()
        self._events.clear()
        self._paths.close()
        self._core.asks_for_processes -= self._asks_for_processes
        self._users.charge(self.uid, devices=-1)
        if self.on_queued is not None:
            self.on_queued()  # wake who waits, to find it closed

    # What a process sees in /proc/PID/fdinfo.

    def queued(self) -> int:
        """Return how many events are queued."""
        return len(self._events)

    def watches(self) -> Iterable[Watch]:
        """Return the watches, oldest first."""
        return self._handle.watches()

    @property
    def lost(self) -> int:
        """How many events were dropped because the queue was full."""
        resting = self._resting.values()
        return self._dropped + sum(stand_in.dropped - since for _, stand_in, since in resting)

    # What the core calls.

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
        """Give the watch back to its user's count.  Seed: free_inotify_user_watch()."""
        self._users.charge(self.uid, watches=-1, trees=-int(watch.tree))
        self._statistics.unfollow(watch.inode, watch.tree)

    # What a queue is made of.

    @abstractmethod
    def _size_of(self, event: Q) -> int:
        """Return the bytes that what is queued takes of a read."""

    @abstractmethod
    def _lose(self, cookie: int = 0) -> bool:
        """Count an event as lost, and queue IN_Q_OVERFLOW; return whether that had a place."""

    @abstractmethod
    def _queue_overflow(self, cookie: int = 0) -> object:
        """Queue IN_Q_OVERFLOW, as it is told behind a lost event with that cookie."""

    def _count_lost(self, number: int) -> None:
        """Say that so many events were lost, which watches that rested did not hear."""
        self._dropped += number

    def _ask_for_processes(self) -> None:
        """Want to know from now on which process a thread is of."""
        if not self._asks_for_processes:
            self._asks_for_processes = True
            self._core.asks_for_processes += 1

    def _hearing(self) -> Hearing | None:
        """Return what tree watches of ours may hear; None where that is everything."""
        return None if self.who is None else self._core.trees.hearing(self.who)

    def _check_limits(self, tree: bool) -> None:
        """Refuse a watch too many.

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
        """Let a watch rest where all its events are dropped until somebody reads.

        Not one that ends now: with IN_IGNORED, by its only event, or after IN_UNMOUNT.
        """
        if (
            watch.attached
            and watch.unwanted is None  # a stand-in would count what is unwanted, too
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
        """Let the watch on inode, or the tree watch, be called again, if it rests."""
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
