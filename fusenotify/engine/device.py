# SPDX-License-Identifier: GPL-2.0-or-later
"""The device: a consumer of the core that queues events for a reader.

Seed: fs/inotify_user.c.  Below is engine.core, which calls handle_event();
above is the server, which does for a client what the syscalls do for a
process.  engine.base_device has the watches; DeviceTable has the state that
the syscalls share.

Invariant
    At most max_events events are queued, followed by an IN_Q_OVERFLOW; fewer if
        there is no room for long paths (engine.paths).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.credentials import Credentials
from fusenotify.engine.base_device import BaseDevice, Shared
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.limits import Limits
from fusenotify.engine.paths import LONGEST_NAME
from fusenotify.engine.policy import Policy
from fusenotify.engine.watches import Watch, put_watch
from fusenotify.errors import BufferTooSmall, QueueEmpty, TooManyInstances
from fusenotify.events import pack, record_size

# The fields of an Event: wd, mask, cookie, name.  A plain tuple is made in half the time.  An
# event from a directory below a tree watch has that directory, too, since equal events of two
# directories are different events.
Queued = tuple[int, int, int, bytes | None] | tuple[int, int, int, bytes | None, Inode]


class Device(BaseDevice[Queued]):
    """A device whose queue holds records.  Seed: struct inotify_device."""

    def read(self, size: int) -> bytes:
        """Return as many whole records as fit size bytes, and remove them from the queue.

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
        events = self._events
        event: Queued
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

    def _lose(self, cookie: int = 0, *, is_full: bool = False) -> bool:
        self._dropped += 1
        self._statistics.lost += 1
        is_full = is_full or len(self._events) > self.max_events
        if is_full or (self._overflow_queued and not self.policy.overflow_repeats):
            return False
        self._queue_overflow(cookie)
        if self.on_queued is not None:
            self.on_queued()
        return True

    def _size_of(self, event: Queued) -> int:
        return record_size(event[3])

    def _queue_overflow(self, cookie: int = 0) -> None:
        self._events.append((-1, IN_Q_OVERFLOW, cookie * self.policy.overflow_keeps_cookie, None))
        self._overflow_queued = True
        self.overflows += 1
        self._statistics.overflows += 1


AnyDevice = Device | DetailedDevice
D = TypeVar("D", Device, DetailedDevice)


class DeviceTable(Shared):
    """The state that all devices of a mount share, and the maker of devices."""

    def __init__(self, core: Core, limits: Limits, policy: Policy) -> None:
        super().__init__(core, limits, policy)
        # The classes that init() and init_detailed() make.  server.faults sets others.
        self.make: Callable[[Shared, Policy, int, int], Device] = Device
        self.make_detailed: Callable[[Shared, Policy, int, int], DetailedDevice] = DetailedDevice

    def init(
        self,
        uid: int,
        *,
        who: Credentials | None = None,
        policy: Policy | None = None,
        max_queued_events: int | None = None,
    ) -> Device:
        """Return a new device, counted against uid.  Seed: sys_inotify_init().

        Its tree watches get the events that a user with the credentials who may
        see (None: all events).  policy and max_queued_events default to the
        mount's.

        Raises TooManyInstances (EMFILE).
        """
        return self._init(self.make, uid, who, policy, max_queued_events)

    def init_detailed(
        self,
        uid: int,
        *,
        who: Credentials | None = None,
        policy: Policy | None = None,
        max_queued_events: int | None = None,
        sees_all: bool = False,
    ) -> DetailedDevice:
        """Return a new detailed device.

        sees_all says that its user may see the processes of all users.  The rest
        is as for init().

        Raises TooManyInstances (EMFILE).
        """
        device = self._init(self.make_detailed, uid, who, policy, max_queued_events)
        device.sees_all |= sees_all
        return device

    def _init(
        self,
        make: Callable[[Shared, Policy, int, int], D],
        uid: int,
        who: Credentials | None,
        policy: Policy | None,
        max_queued_events: int | None,
    ) -> D:
        limit = self.limits.max_user_instances
        if self.users.counts(uid).devices >= limit:
            raise TooManyInstances(f"user {uid} has max_user_instances = {limit} already")
        if max_queued_events is None:
            max_queued_events = self.limits.max_queued_events
        device = make(self, policy or self.policy, uid, max_queued_events)
        device.who = who
        return device
