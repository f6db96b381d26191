# SPDX-License-Identifier: GPL-2.0-or-later
"""The statistics count what happens where devices watch, and watch nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fusenotify.bits import IN_ALL_EVENTS, IN_CREATE, IN_DELETE, IN_ONESHOT
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import Device, DeviceTable
from fusenotify.engine.hooks import File, Hooks
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_2_6_18, LINUX_6, Policy
from fusenotify.engine.statistics import PAST_DIRECTORIES, PAST_USERS, Statistics


@dataclass(frozen=True)
class Someone:
    """Who acts."""

    uid: int
    pid: int = 1
    gid: int = 1000


ANN, BEN = Someone(1001), Someone(1002)


class Tree:
    """A root directory with one subdirectory, both empty."""

    def __init__(self) -> None:
        self.hooks = Hooks(Core())
        self.table = DeviceTable(self.hooks.core, Limits(), LINUX_6)
        self.statistics: Statistics = self.table.statistics
        self.root = Inode(is_dir=True)
        self.sub = self.make("sub", directory=True)

    def device(
        self, *watched: Inode, mask: int = IN_ALL_EVENTS, policy: Policy | None = None
    ) -> Device:
        device = self.table.init(0, policy=policy)
        for inode in watched:
            device.add_watch(inode, mask)
        return device

    def make(self, name: str, parent: Inode | None = None, *, directory: bool = False) -> Inode:
        inode = Inode(is_dir=directory)
        self.hooks.created(parent or self.root, name.encode(), inode)
        return inode


def test_each_event_is_counted_once_however_many_devices_watch() -> None:
    tree = Tree()
    for _ in range(3):
        tree.device(tree.root)
    tree.make("a")
    tree.make("b", directory=True)
    assert tree.statistics.events() == {"CREATE": 2}


def test_events_are_counted_whatever_the_masks_ask_for() -> None:
    tree = Tree()
    tree.device(tree.root, mask=IN_DELETE)
    tree.make("a")
    assert tree.statistics.events() == {"CREATE": 1}


def test_unwatched_objects_are_neither_counted_nor_watched() -> None:
    tree = Tree()
    device = tree.device(tree.root)
    tree.make("a", tree.sub)
    assert tree.sub.watches == ()
    device.close()
    tree.make("b")
    assert tree.root.watches == ()
    assert tree.statistics.events() == {}


def test_they_follow_while_one_device_is_left() -> None:
    tree = Tree()
    first, second = tree.device(tree.root), tree.device(tree.root)
    first.close()
    tree.make("a")
    second.rm_watch(1)
    tree.make("b")
    assert tree.statistics.events() == {"CREATE": 1}


@pytest.mark.parametrize("policy", [LINUX_6, LINUX_2_6_18], ids=lambda policy: policy.name)
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside one that was there before"])
def test_the_event_that_ends_the_last_one_shot_watch_is_counted(
    others: int, policy: Policy
) -> None:
    tree = Tree()
    before = [tree.device(tree.root) for _ in range(others)]
    tree.device(tree.root, mask=IN_CREATE | IN_ONESHOT, policy=policy)
    for device in before:
        device.close()
    tree.make("a")
    assert tree.statistics.events() == {"CREATE": 1}
    assert tree.root.watches == ()


def test_an_object_that_dies_is_let_go_of() -> None:
    tree = Tree()
    device = tree.device(tree.sub)
    tree.hooks.removed_directory(tree.root, b"sub", tree.sub)
    assert tree.statistics.events() == {"DELETE_SELF": 1}
    assert tree.sub.watches == ()
    assert tree.statistics.directories(9) == [(b"/sub", 1)]
    device.close()


def test_directories_are_named_as_they_are_now_busiest_first() -> None:
    tree = Tree()
    file = tree.make("f", tree.sub)
    tree.device(tree.root, tree.sub, file)
    tree.hooks.renamed(tree.root, b"sub", tree.root, b"moved", tree.sub)  # root 2, sub 1
    tree.hooks.accessed(File(file, writable=False))  # sub 1, the file in it 1
    tree.make("g", tree.sub)
    assert tree.statistics.directories(9) == [(b"/moved", 4), (b"/", 2)]
    assert tree.statistics.directories(1) == [(b"/moved", 4)]


def test_directories_are_remembered_when_they_are_no_longer_watched() -> None:
    tree = Tree()
    device = tree.device(tree.sub)
    tree.make("a", tree.sub)
    device.close()
    tree.device(tree.sub)
    tree.make("b", tree.sub)
    assert tree.statistics.directories(9) == [(b"/sub", 2)]


def test_only_so_many_directories_are_remembered_and_they_are_the_busiest() -> None:
    tree = Tree()
    for number in range(2 * PAST_DIRECTORIES + 1):
        directory = tree.make(str(number), directory=True)
        device = tree.device(directory)
        for name in "ab"[: 1 + (number == 7)]:
            tree.make(name, directory)
        device.close()
    remembered = tree.statistics.directories(10 * PAST_DIRECTORIES)
    assert len(remembered) == PAST_DIRECTORIES
    assert remembered[0] == (b"/7", 2)


def test_the_beginning_of_a_very_long_path_is_left_out() -> None:
    tree = Tree()
    directory = tree.root
    for _ in range(100):
        directory = tree.make("x" * 255, directory, directory=True)
    tree.device(directory)
    tree.make("a", directory)
    ((path, _),) = tree.statistics.directories(9)
    assert path.startswith(b"/.../xxx")
    assert len(path) < 5000


def test_of_a_deep_tree_only_the_end_of_a_path_is_looked_at() -> None:
    """Letting go of thousands of watches far down takes no longer than of others."""
    tree = Tree()
    directory = tree.root
    for _ in range(2000):
        directory = tree.make("x", directory, directory=True)
    device = tree.device(directory)
    tree.make("a", directory)
    device.close()
    ((path, _),) = tree.statistics.directories(9)
    assert path == b"/..." + b"/x" * 32


def test_only_so_many_users_are_remembered_and_they_are_the_busiest() -> None:
    tree = Tree()
    tree.device(tree.root)
    tree.hooks.by(BEN).created(tree.root, b"b", tree.sub)
    for uid in range(2000, 2000 + 2 * PAST_USERS):
        tree.hooks.by(Someone(uid)).xattr_changed(tree.root)
        if uid == 2007:
            tree.hooks.xattr_changed(tree.root)
    remembered = tree.statistics.users(10 * PAST_USERS)
    assert len(remembered) == PAST_USERS
    assert remembered[0] == (2007, 2)


def test_events_are_counted_for_the_process_that_caused_them() -> None:
    tree = Tree()
    tree.device(tree.root)
    for actor, name in ((ANN, b"a"), (BEN, b"b"), (BEN, b"c"), (None, b"d")):
        tree.hooks.by(actor).created(tree.root, name, Inode(is_dir=False))
    assert tree.statistics.users(9) == [(BEN.uid, 2), (ANN.uid, 1)]
    assert tree.statistics.users(1) == [(BEN.uid, 2)]
    assert tree.statistics.events() == {"CREATE": 4}


def test_an_event_of_two_types_counts_for_both() -> None:
    tree = Tree()
    file = tree.make("f")
    tree.device(file)
    tree.hooks.truncated_by_open(File(file, writable=True), set_id_bits_lost=True)
    assert tree.statistics.events() == {"MODIFY": 1, "ATTRIB": 1}


def test_the_counts_of_merged_and_lost_events_outlive_the_devices() -> None:
    tree = Tree()
    for _ in range(2):
        device = tree.table.init(0, max_queued_events=2)
        device.add_watch(tree.sub, IN_ALL_EVENTS)
        file = File(tree.sub, writable=True)
        tree.hooks.accessed(file)
        tree.hooks.accessed(file)  # merges
        for _ in range(4):
            tree.hooks.modified(file)  # fills the queue, overflows, is lost
        device.close()
    counted = tree.statistics
    assert (counted.merged, counted.overflows, counted.lost) == (2, 2, 6)
