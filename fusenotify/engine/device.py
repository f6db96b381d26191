# SPDX-License-Identifier: GPL-2.0-or-later
"""The device: a consumer of the core that queues events for a reader.

Seed: fs/inotify_user.c.  Below is engine.core, which calls handle_event();
above is the server, which does for a client what the syscalls do for a
process.  DeviceTable is what the syscalls share: limits and users.

Invariants
    At most max_events events are queued, and an IN_Q_OVERFLOW behind them; fewer
        where there is no room for long paths (engine.paths).
    A watch counts against the user who made the device, from add_watch() to
        its last reference; the device itself likewise, from init() to close().
    Nothing blocks: who wants to wait sets on_queued and reads when called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from fusenotify.credentials import Credentials
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.exclusion import Exclusion, Exclusions, Unwanted
from fusenotify.engine.limits import Limits, Users
from fusenotify.engine.paths import LONGEST_NAME, PathRoom
from fusenotify.engine.policy import Policy
from fusenotify.engine.resting import Rest, StandIn
from fusenotify.engine.statistics import Statistics
from fusenotify.engine.trees import TreeWatch
from fusenotify.engine.watches import Hearing, Watch, put_watch
from fusenotify.errors import (
    BufferTooSmall,
    DeviceClosed,
    InvalidMask,
    NoDirectory,
    QueueEmpty,
    TooManyInstances,
    TooManyTrees,
    TooManyWatches,
)
from fusenotify.events import pack, record_size
from fusenotify.masks import IN_ONESHOT, IN_Q_OVERFLOW, IN_UNMOUNT

# How many watches of a device may rest: all of them wake at one read.
MOST_RESTING = 1000

# An Event's fields: wd, mask, cookie, name.  A plain tuple is made in half the time.  What a
# directory below a tree watch says has that directory, too: another's is not the same event.
_Queued = tuple[int, int, int, bytes | None] | tuple[int, int, int, bytes | None, Inode]


class Device:
    """One reader's event queue and watches.  Seed: struct inotify_device.

    uid is the user it counts against, who that user's credentials, where they
    bound what its tree watches hear.  max_events counts events and is fixed.
    overflows counts the IN_Q_OVERFLOW records queued so far, merged and lost
    the events that were dropped.  on_queued is called after an event was queued.
    Watches of a device whose queue is full rest (engine.resting) until it is read.
    """

    def __init__(self, table: DeviceTable, policy: Policy, uid: int, max_events: int) -> None:
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
        self._events: deque[_Queued] = deque()
        self._newest_or_oldest = -1 if policy.merge_with_newest else 0
        # So many of the oldest events were asked for by fionread() already, and take so much.
        self._sized = self._sized_bytes = 0
        self._overflow_queued = False
        self._paths = PathRoom(table.users, uid)
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
            unwanted = Unwanted(exclusion, ignored, self._core.process_of, self._lose)
        if ignored and not self._asks_for_processes:
            self._asks_for_processes = True
            self._core.asks_for_processes += 1
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

    def read(self, size: int) -> bytes:
        """Return as many whole records as fit size bytes, and unqueue them.

        Seed: inotify_read(), for a descriptor with O_NONBLOCK.

        Raises QueueEmpty (EAGAIN), BufferTooSmall (EINVAL; linux-2.6.18
        returns b"" instead), DeviceClosed (EBADF).
        """
        self._check_open()
        events = self._events
        if not events:
            raise QueueEmpty("no event is queued")
        records: list[bytes] = []
        room = size
        while events:
            event = events[0]
            record = pack(event[:4])
            room -= len(record)
            if room < 0:
                break
            records.append(record)
            del events[0]
            if self._sized:
                self._sized -= 1
                self._sized_bytes -= len(record)
            if event[1] & IN_Q_OVERFLOW:
                self._overflow_queued = self._paths.overflowed = False
            elif len(event) > 4 and len(path := event[3] or b"") > LONGEST_NAME:
                self._paths.give_back(path)
        if records:
            self._wake_all()
        elif self.policy.short_read_is_error:
            needed = record_size(events[0][3])
            raise BufferTooSmall(f"the first record takes {needed} bytes, the buffer has {size}")
        return b"".join(records)

    def fionread(self) -> int:
        """Return how many bytes are queued.  Seed: inotify_ioctl(FIONREAD).

        Raises DeviceClosed (EBADF).
        """
        self._check_open()
        queued = len(self._events)
        for event in islice(reversed(self._events), queued - self._sized):
            self._sized_bytes += record_size(event[3])
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
        if not watch.attached:
            put_watch(watch)
        events = self._events
        event: _Queued
        event = (wd, mask, cookie, name) if below is None else (wd, mask, cookie, name, below)
        excess = len(events) - self.max_events
        if events and (excess < 0 or self.policy.merge_into_full_queue):
            last = events[self._newest_or_oldest]
            if last == event or (
                last[1] == mask
                and last[0] == wd
                and last[3] == name
                and not self.policy.merge_compares_cookies
                and last[4:] == event[4:]
            ):
                self.merged += 1
                self._statistics.merged += 1
                return
        if self._paths.overflowed:
            excess = max(excess, 1)
        elif (
            below is not None
            and name is not None
            and len(name) > LONGEST_NAME
            and excess < 0
            and not self._paths.take(name)
        ):
            excess = 0
        if excess < 0:
            events.append(event)
            if self.on_queued is not None:
                self.on_queued()
        elif not self._lose(cookie, is_full=excess > 0):
            self._let_rest(watch, mask)

    def destroy_watch(self, watch: Watch) -> None:
        """Give the watch back to its user's count.  Seed: free_inotify_user_watch()."""
        self._users.charge(self.uid, watches=-1, trees=-int(watch.tree))
        self._statistics.unfollow(watch.inode, watch.tree)

    def _lose(self, cookie: int = 0, *, is_full: bool = False) -> bool:
        """Count an event as lost, and queue IN_Q_OVERFLOW; return whether that had a place."""
        self._dropped += 1
        self._statistics.lost += 1
        is_full = is_full or len(self._events) > self.max_events
        if is_full or (self._overflow_queued and not self.policy.overflow_repeats):
            return False
        self._events.append((-1, IN_Q_OVERFLOW, cookie * self.policy.overflow_keeps_cookie, None))
        self._overflow_queued = True
        self.overflows += 1
        self._statistics.overflows += 1
        if self.on_queued is not None:
            self.on_queued()
        return True

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
            self._dropped += stand_in.dropped - since
            self._rest.wake(watch, stand_in)

    def _wake_all(self) -> None:
        while self._resting:
            self._wake(*next(iter(self._resting)))

    def _check_open(self) -> None:
        if self.closed:
            raise DeviceClosed("the device was closed")


class DeviceTable:
    """What all devices of a mount share: the core, the limits, the users, the statistics."""

    def __init__(self, core: Core, limits: Limits, policy: Policy) -> None:
        self.core = core
        self.limits = limits
        self.policy = policy
        self.users = Users()
        self.exclusions = Exclusions()
        self.statistics = Statistics(core)
        self.rest = Rest(self.statistics, core.trees)
        # What init() makes.  server.faults has another one made.
        self.make: Callable[[DeviceTable, Policy, int, int], Device] = Device

    def init(
        self,
        uid: int,
        *,
        who: Credentials | None = None,
        policy: Policy | None = None,
        max_queued_events: int | None = None,
    ) -> Device:
        """Return a new device, counted against uid.  Seed: sys_inotify_init().

        Its tree watches hear what who may (None: everything).  policy and
        max_queued_events default to the mount's.

        Raises TooManyInstances (EMFILE).
        """
        limit = self.limits.max_user_instances
        if self.users.counts(uid).devices >= limit:
            raise TooManyInstances(f"user {uid} has max_user_instances = {limit} already")
        if max_queued_events is None:
            max_queued_events = self.limits.max_queued_events
        device = self.make(self, policy or self.policy, uid, max_queued_events)
        device.who = who
        return device
