# SPDX-License-Identifier: GPL-2.0-or-later
"""The device: queue, merging, overflow, reads, limits and counts."""

from __future__ import annotations

import pytest

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_OPEN,
    IN_Q_OVERFLOW,
)
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import Device, DeviceTable
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_2_6_18, LINUX_6, Policy
from fusenotify.errors import (
    BufferTooSmall,
    DeviceClosed,
    InvalidMask,
    QueueEmpty,
    TooManyInstances,
    TooManyTrees,
    TooManyWatches,
)
from fusenotify.events import Event, record_size, unpack

USER = 1000


class Watched:
    """A device that watches one directory."""

    def __init__(self, policy: Policy = LINUX_6, max_queued_events: int | None = None) -> None:
        self.core = Core()
        self.limits = Limits()
        self.table = DeviceTable(self.core, self.limits, policy)
        self.device: Device = self.table.init(USER, max_queued_events=max_queued_events)
        self.directory = Inode(is_dir=True)
        self.wd = self.device.add_watch(self.directory, IN_ALL_EVENTS)

    def happens(self, *events: tuple[int, int, bytes | None]) -> None:
        for mask, cookie, name in events:
            self.core.queue_event(self.directory, mask, cookie, name)

    def read(self, size: int = 65536) -> list[Event]:
        return list(unpack(self.device.read(size)))


def modify(name: bytes = b"f") -> tuple[int, int, bytes]:
    return (IN_MODIFY, 0, name)


def close(name: bytes = b"f") -> tuple[int, int, bytes]:
    return (IN_CLOSE_WRITE, 0, name)


def moved(cookie: int) -> tuple[int, int, bytes]:
    return (IN_MOVED_FROM, cookie, b"f")


@pytest.mark.parametrize(
    ("policy", "arriving", "kept"),
    [
        pytest.param(LINUX_6, [modify(), modify()], 1, id="equal neighbours merge"),
        pytest.param(LINUX_6, [modify(), modify(b"g")], 2, id="another name does not"),
        pytest.param(LINUX_6, [modify(), (IN_MODIFY, 0, None)], 2, id="nor no name"),
        pytest.param(LINUX_6, [modify(), close(), modify()], 3, id="only the newest is compared"),
        pytest.param(LINUX_2_6_18, [modify(), close(), modify()], 2, id="only the oldest is"),
        pytest.param(LINUX_6, [moved(1), moved(2)], 1, id="cookies are not compared"),
        pytest.param(LINUX_2_6_18, [moved(1), moved(2)], 2, id="cookies are compared"),
    ],
)
def test_merging(policy: Policy, arriving: list[tuple[int, int, bytes | None]], kept: int) -> None:
    watched = Watched(policy)
    watched.happens(*arriving)
    assert watched.device.queued() == kept
    assert watched.device.merged == len(arriving) - kept


def test_nothing_merges_with_what_was_read() -> None:
    watched = Watched()
    watched.happens(modify())
    watched.read()
    watched.happens(modify())
    assert watched.device.queued() == 1


def test_a_full_queue_takes_one_overflow_and_then_nothing() -> None:
    watched = Watched(max_queued_events=2)
    watched.happens(*[modify(b"%d" % number) for number in range(5)])
    masks = [(event.wd, event.mask, event.cookie) for event in watched.read()]
    assert masks == [(1, IN_MODIFY, 0), (1, IN_MODIFY, 0), (-1, IN_Q_OVERFLOW, 0)]
    assert (watched.device.overflows, watched.device.lost) == (1, 3)


def test_linux_6_tests_for_full_before_it_merges() -> None:
    watched = Watched(max_queued_events=1)
    watched.happens(modify(), modify())
    assert [event.mask for event in watched.read()] == [IN_MODIFY, IN_Q_OVERFLOW]


def test_linux_2_6_18_merges_before_it_tests_for_full() -> None:
    watched = Watched(LINUX_2_6_18, max_queued_events=1)
    watched.happens(modify(), modify())
    assert [event.mask for event in watched.read()] == [IN_MODIFY]


@pytest.mark.parametrize(
    ("policy", "overflows"),
    [
        pytest.param(LINUX_6, 1, id="linux-6: one at a time"),
        pytest.param(LINUX_2_6_18, 2, id="linux-2.6.18: a slot like any other"),
    ],
)
def test_overflow_again_before_the_first_was_read(policy: Policy, overflows: int) -> None:
    watched = Watched(policy, max_queued_events=2)
    watched.happens(modify(b"a"), modify(b"b"), modify(b"c"))
    watched.device.read(32)
    watched.happens(modify(b"d"))
    masks = [event.mask for event in watched.read()]
    assert masks.count(IN_Q_OVERFLOW) == overflows


def test_events_queue_after_an_overflow_once_there_is_room() -> None:
    watched = Watched(max_queued_events=2)
    watched.happens(modify(b"a"), modify(b"b"), modify(b"c"))
    watched.device.read(64)
    watched.happens(modify(b"d"))
    assert [event.mask for event in watched.read()] == [IN_Q_OVERFLOW, IN_MODIFY]


def test_the_overflow_of_linux_2_6_18_carries_the_lost_cookie() -> None:
    watched = Watched(LINUX_2_6_18, max_queued_events=1)
    watched.happens(modify(), moved(7))
    assert watched.read()[-1] == Event(-1, IN_Q_OVERFLOW, 7)


@pytest.mark.parametrize(
    ("name", "size"),
    [(None, 16), (b"a" * 15, 32), (b"a" * 16, 48), (b"a" * 31, 48), (b"a" * 255, 272)],
)
def test_a_record_is_padded_to_sixteen_bytes(name: bytes | None, size: int) -> None:
    watched = Watched()
    watched.happens((IN_CREATE, 0, name))
    assert watched.device.fionread() == size
    assert len(watched.device.read(size)) == size
    assert watched.device.fionread() == 0


def test_queued_events_are_counted_once_in_any_order_of_asking_and_reading() -> None:
    watched = Watched()
    sizes: list[int] = []
    for number in range(40):
        name = b"n" * (number + 1)
        watched.happens((IN_CREATE, 0, name))
        sizes.append(record_size(name))
        if number % 3 == 0:
            assert watched.device.fionread() == sum(sizes)
        if number % 5 == 0:
            watched.device.read(sizes.pop(0))
    assert watched.device.fionread() == sum(sizes)


def test_a_read_gives_whole_records_only() -> None:
    watched = Watched()
    watched.happens(modify(b"a"), modify(b"b"))
    assert [event.name for event in watched.read(63)] == [b"a"]
    assert [event.name for event in watched.read(32)] == [b"b"]


def test_a_buffer_too_small_for_the_first_record() -> None:
    watched = Watched()
    watched.happens(modify())
    with pytest.raises(BufferTooSmall, match="takes 32 bytes"):
        watched.device.read(31)
    old = Watched(LINUX_2_6_18)
    old.happens(modify())
    assert old.device.read(31) == b""
    assert old.device.queued() == 1


def test_an_empty_queue_is_eagain_whatever_the_size() -> None:
    watched = Watched()
    for size in (0, 65536):
        with pytest.raises(QueueEmpty):
            watched.device.read(size)


def test_waiting_callbacks_are_called_when_an_event_is_queued() -> None:
    watched = Watched()
    calls: list[bool] = []
    watched.device.on_queued = lambda: calls.append(watched.device.poll())
    watched.happens(modify())
    watched.happens(modify())
    assert calls == [True]


def test_watches_and_devices_count_against_the_user() -> None:
    watched = Watched()
    users = watched.table.users
    assert (users.counts(USER).watches, users.counts(USER).devices) == (1, 1)
    watched.device.rm_watch(watched.wd)
    assert users.counts(USER).watches == 0
    watched.device.close()
    assert users.all() == {}


def test_max_user_instances_is_emfile_for_that_user_only() -> None:
    watched = Watched()
    watched.limits.max_user_instances = 1
    with pytest.raises(TooManyInstances):
        watched.table.init(USER)
    watched.table.init(USER + 1)


@pytest.mark.parametrize(
    ("policy", "next_wd"),
    [pytest.param(LINUX_6, 3, id="linux-6"), pytest.param(LINUX_2_6_18, 2, id="linux-2.6.18")],
)
def test_max_user_watches_is_enospc_and_re_adding_is_free(policy: Policy, next_wd: int) -> None:
    watched = Watched(policy)
    watched.limits.max_user_watches = 1
    with pytest.raises(TooManyWatches):
        watched.device.add_watch(Inode(is_dir=True), IN_OPEN)
    assert watched.device.add_watch(watched.directory, IN_OPEN) == watched.wd
    watched.limits.max_user_watches = 2
    assert watched.device.add_watch(Inode(is_dir=True), IN_OPEN) == next_wd


def test_a_limit_below_what_is_in_use_refuses_only_what_is_new() -> None:
    watched = Watched()
    other = watched.table.init(USER)
    other.add_watch(Inode(is_dir=True), IN_ALL_EVENTS, tree=True)
    watched.limits.max_user_watches = watched.limits.max_user_instances = 1
    watched.limits.max_user_trees = 0
    assert watched.device.add_watch(watched.directory, IN_OPEN) == watched.wd
    with pytest.raises(TooManyWatches):
        watched.device.add_watch(Inode(is_dir=False), IN_ALL_EVENTS)
    with pytest.raises(TooManyInstances):
        watched.table.init(USER)
    watched.limits.max_user_watches = 3
    watched.device.add_watch(Inode(is_dir=False), IN_ALL_EVENTS)
    watched.limits.max_user_watches = 4
    with pytest.raises(TooManyTrees):
        watched.device.add_watch(Inode(is_dir=True), IN_ALL_EVENTS, tree=True)


def test_the_queue_limit_is_fixed_when_the_device_is_made() -> None:
    watched = Watched()
    watched.limits.max_queued_events = 1
    watched.happens(modify(b"a"), modify(b"b"))
    assert watched.device.overflows == 0


def test_a_closed_device_answers_ebadf_to_everything() -> None:
    watched = Watched()
    device = watched.device
    device.close()
    device.close()
    for call in (
        lambda: device.read(4096),
        lambda: device.add_watch(watched.directory, IN_OPEN),
        lambda: device.rm_watch(1),
        lambda: device.check_mask(IN_OPEN),
        device.fionread,
        device.poll,
    ):
        with pytest.raises(DeviceClosed):
            call()


def test_a_bad_mask_is_refused_before_the_path_is_looked_at() -> None:
    with pytest.raises(InvalidMask):
        Watched().device.check_mask(0)
    Watched(LINUX_2_6_18).device.check_mask(0)
