# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches of devices that nobody reads rest, and nobody can tell but by the time it takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_EXCL_UNLINK,
    IN_MODIFY,
    IN_ONESHOT,
)
from fusenotify.engine import base_device
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.device import AnyDevice, DeviceTable
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_2_6_18, LINUX_6
from fusenotify.errors import NotifyError
from fusenotify.events import unpack

INODES = 3
MASKS = (IN_ALL_EVENTS, IN_CREATE, IN_MODIFY | IN_EXCL_UNLINK, IN_ALL_EVENTS | IN_ONESHOT)


class World:
    """Some inodes, and devices with short queues, two of each semantics."""

    def __init__(self) -> None:
        self.core = Core()
        self.table = DeviceTable(self.core, Limits(), LINUX_6)
        self.inodes = [Inode(is_dir=True) for _ in range(INODES)]
        self.core.details.clock = lambda: 0
        self.devices: list[AnyDevice] = [
            self.table.init(1000, policy=policy, max_queued_events=limit)
            for policy, limit in ((LINUX_6, 0), (LINUX_6, 2), (LINUX_2_6_18, 1), (LINUX_6, 1))
        ]
        self.devices += [
            self.table.init_detailed(1000, max_queued_events=limit) for limit in (0, 2)
        ]

    def do(self, step: tuple[Any, ...]) -> object:
        """Do a step and return what can be seen of it."""
        kind, which, *arguments = step
        try:
            match kind:
                case "event":
                    mask, name, unlinked = arguments
                    self.core.queue_event(self.inodes[which], mask, 0, name, unlinked)
                case "die":
                    self.core.inode_is_dead(self.inodes[which])
                case "unmount":
                    self.core.unmount(self.inodes)
                case "watch":
                    inode, mask = arguments
                    return self.devices[which].add_watch(self.inodes[inode], mask)
                case "unwatch":
                    self.devices[which].rm_watch(arguments[0])
                case "read":
                    device = self.devices[which]
                    if isinstance(device, DetailedDevice):
                        return device.read_events(13 * arguments[0])
                    return [*unpack(device.read(arguments[0]))]
                case "close":
                    self.devices[which].close()
        except NotifyError as error:
            return type(error)
        return None

    def counts(self) -> object:
        """What status shows."""
        statistics = self.table.statistics
        return (
            [
                (device.queued(), device.overflows, device.merged, device.lost)
                for device in self.devices
            ],
            [[*map(vars_of, device.watches())] for device in self.devices],
            (statistics.overflows, statistics.merged, statistics.lost, statistics.events()),
            self.table.users.counts(1000).watches,
        )


def vars_of(watch: Any) -> tuple[int, int, bool]:
    return watch.wd, watch.mask, watch.attached


number = st.integers(0, 5)
inode = st.integers(0, INODES - 1)
event = st.tuples(
    st.just("event"),
    inode,
    st.sampled_from([IN_CREATE, IN_MODIFY]),
    st.sampled_from([b"a", b"b"]),
    st.booleans(),
)
step = st.one_of(
    event,
    event,
    event,
    st.tuples(st.just("watch"), number, inode, st.sampled_from(MASKS)),
    st.tuples(st.just("watch"), number, inode, st.sampled_from(MASKS)),
    st.tuples(st.just("read"), number, st.sampled_from([16, 32, 4096])),
    st.tuples(st.just("unwatch"), number, st.integers(1, 4)),
    st.tuples(st.just("die"), inode),
    st.tuples(st.just("close"), number),
    st.tuples(st.just("unmount"), st.just(0)),
)


@settings(max_examples=300)
@given(st.lists(step, min_size=10, max_size=60))
def test_whether_watches_rest_cannot_be_seen(steps: list[tuple[Any, ...]]) -> None:
    resting, awake = World(), World()
    for one in steps:
        with pytest.MonkeyPatch.context() as patch:
            seen = resting.do(one)
            patch.setattr(base_device, "MOST_RESTING", 0)
            assert awake.do(one) == seen
        assert awake.counts() == resting.counts()


def test_devices_that_nobody_reads_are_one_watch_of_the_inode() -> None:
    world = World()
    devices = [world.table.init(1000, max_queued_events=1) for _ in range(50)]
    for device in devices:
        device.add_watch(world.inodes[0], IN_CREATE)
    for name in (b"a", b"b", b"c"):
        world.do(("event", 0, IN_CREATE, name, False))
    # The stand-in, and the statistics.
    assert len(world.inodes[0].watches) == 2
    assert {device.lost for device in devices} == {2}
    devices[0].read(4096)
    assert len(world.inodes[0].watches) == 3
    world.do(("event", 0, IN_CREATE, b"d", False))
    assert [event.name for event in unpack(devices[0].read(4096))] == [b"d"]
    assert {device.lost for device in devices[1:]} == {3}


def test_a_device_lets_only_so_many_watches_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_device, "MOST_RESTING", 1)
    world = World()
    device = world.devices[0]
    for which in (0, 1):
        device.add_watch(world.inodes[which], IN_CREATE)
    for which in (0, 0, 1, 1):
        world.do(("event", which, IN_CREATE, b"a", False))
    assert device.lost == 4
    assert [any(watch.handle is world.table.rest for watch in i.watches) for i in world.inodes] == [
        True,
        False,
        False,
    ]
