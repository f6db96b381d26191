# SPDX-License-Identifier: GPL-2.0-or-later
"""The consumer API: handles, watches and their references, with a consumer of our own."""

from __future__ import annotations

import pytest

from fusenotify.bits import (
    IN_CREATE,
    IN_DELETE,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_MODIFY,
    IN_ONESHOT,
    IN_UNMOUNT,
)
from fusenotify.engine.core import Core, Dentry, Inode
from fusenotify.engine.policy import LINUX_2_6_18, LINUX_6, Policy
from fusenotify.engine.watches import Handle, Watch, get_watch, put_watch
from fusenotify.errors import InvalidMask, NoSuchWatch, WatchExists
from tests.counting import counted_calls


class PinnedInode(Inode):
    """An inode that counts its pins."""

    __slots__ = ("pins",)

    def __init__(self) -> None:
        super().__init__(is_dir=True)
        self.pins = 0

    def pin(self) -> None:
        self.pins += 1

    def unpin(self) -> None:
        self.pins -= 1


class Tally:
    """A consumer that is not a device: it counts events by mask and queues nothing."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.destroyed: list[Watch] = []

    def handle_event(
        self, watch: Watch, wd: int, mask: int, cookie: int, name: bytes | None
    ) -> None:
        if not watch.attached:
            put_watch(watch)
        self.counts[mask] = self.counts.get(mask, 0) + 1

    def destroy_watch(self, watch: Watch) -> None:
        self.destroyed.append(watch)


class Consumer:
    """A tally with its handle, and one inode to watch."""

    def __init__(self, policy: Policy = LINUX_6) -> None:
        self.core = Core()
        self.tally = Tally()
        self.handle: Handle = self.core.init(self.tally, policy)
        self.inode = PinnedInode()

    def watch(self, mask: int) -> Watch:
        watch = Watch()
        self.handle.add_watch(watch, self.inode, mask)
        return watch


def test_any_consumer_is_called_for_the_events_of_its_watch() -> None:
    consumer = Consumer()
    consumer.watch(IN_CREATE)
    consumer.core.queue_event(consumer.inode, IN_CREATE, name=b"a")
    consumer.core.queue_event(consumer.inode, IN_DELETE, name=b"a")
    assert consumer.tally.counts == {IN_CREATE: 1}


def test_two_consumers_of_one_inode_are_independent() -> None:
    first, second = Consumer(), Tally()
    first.watch(IN_CREATE)
    handle = first.core.init(second, LINUX_6)
    handle.add_watch(Watch(), first.inode, IN_DELETE)
    first.core.queue_event(first.inode, IN_CREATE)
    first.core.queue_event(first.inode, IN_DELETE)
    assert (first.tally.counts, second.counts) == ({IN_CREATE: 1}, {IN_DELETE: 1})


def test_a_watch_pins_its_inode_until_it_is_removed() -> None:
    consumer = Consumer()
    watch = consumer.watch(IN_CREATE)
    assert consumer.inode.pins == 1
    consumer.handle.rm_wd(watch.wd)
    assert consumer.inode.pins == 0
    assert consumer.tally.destroyed == [watch]


def test_a_reference_keeps_a_removed_watch_and_its_inode() -> None:
    consumer = Consumer()
    watch = consumer.watch(IN_CREATE)
    get_watch(watch)
    consumer.handle.rm_wd(watch.wd)
    assert (consumer.inode.pins, consumer.tally.destroyed) == (1, [])
    put_watch(watch)
    assert (consumer.inode.pins, consumer.tally.destroyed) == (0, [watch])


def test_destroying_a_handle_says_nothing_and_frees_its_watches() -> None:
    consumer = Consumer()
    watch = consumer.watch(IN_CREATE)
    consumer.handle.destroy()
    assert consumer.tally.counts == {}
    assert consumer.tally.destroyed == [watch]
    assert consumer.inode.pins == 0
    assert consumer.inode.watches == ()


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        pytest.param(LINUX_6, {IN_CREATE: 1, IN_IGNORED: 1}, id="linux-6 ends with IGNORED"),
        pytest.param(LINUX_2_6_18, {IN_CREATE: 1}, id="linux-2.6.18 ends silently"),
    ],
)
def test_a_one_shot_watch_fires_once_and_is_freed(policy: Policy, told: dict[int, int]) -> None:
    consumer = Consumer(policy)
    watch = consumer.watch(IN_CREATE | IN_ONESHOT)
    for name in (b"a", b"b"):
        consumer.core.queue_event(consumer.inode, IN_CREATE, name=name)
    assert consumer.tally.counts == told
    assert consumer.tally.destroyed == [watch]


@pytest.mark.parametrize("policy", [LINUX_6, LINUX_2_6_18], ids=lambda policy: policy.name)
def test_a_one_shot_watch_on_an_unmounted_inode_is_freed_once(policy: Policy) -> None:
    consumer = Consumer(policy)
    watch = consumer.watch(IN_CREATE | IN_ONESHOT)
    consumer.core.unmount([consumer.inode])
    assert consumer.tally.destroyed == [watch]
    assert consumer.tally.counts[IN_IGNORED] == 1


@pytest.mark.parametrize(
    ("policy", "mask"),
    [
        pytest.param(LINUX_6, IN_UNMOUNT | IN_ISDIR, id="linux-6 says that it was a directory"),
        pytest.param(LINUX_2_6_18, IN_UNMOUNT, id="linux-2.6.18 does not"),
    ],
)
def test_unmount_sends_unmount_then_ignored(policy: Policy, mask: int) -> None:
    consumer = Consumer(policy)
    consumer.watch(IN_CREATE)
    consumer.core.unmount([consumer.inode])
    assert list(consumer.tally.counts) == [mask, IN_IGNORED]


def test_a_dead_inode_loses_all_its_watches() -> None:
    consumer = Consumer()
    consumer.watch(IN_CREATE)
    consumer.core.inode_is_dead(consumer.inode)
    assert consumer.tally.counts == {IN_IGNORED: 1}
    assert len(consumer.handle) == 0


@pytest.mark.parametrize("forged", [IN_IGNORED, IN_ONESHOT])
def test_a_producer_cannot_free_a_live_watch(forged: int) -> None:
    consumer = Consumer()
    watch = consumer.watch(IN_CREATE)
    consumer.core.queue_event(consumer.inode, IN_CREATE | forged)
    assert consumer.tally.counts == {IN_CREATE: 1}
    assert watch.references == 1


def test_excl_unlink_gets_nothing_through_a_name_that_is_gone() -> None:
    consumer = Consumer()
    consumer.watch(IN_MODIFY | IN_EXCL_UNLINK)
    consumer.core.queue_event(consumer.inode, IN_MODIFY, unlinked=True)
    assert consumer.tally.counts == {}
    consumer.core.queue_event(consumer.inode, IN_MODIFY)
    assert consumer.tally.counts == {IN_MODIFY: 1}


def test_linux_2_6_18_does_not_know_excl_unlink() -> None:
    consumer = Consumer(LINUX_2_6_18)
    consumer.watch(IN_MODIFY | IN_EXCL_UNLINK)
    consumer.core.queue_event(consumer.inode, IN_MODIFY, unlinked=True)
    assert consumer.tally.counts == {IN_MODIFY: 1}


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        pytest.param(IN_CREATE, IN_DELETE, IN_DELETE, id="replaces"),
        pytest.param(IN_CREATE, IN_DELETE | IN_MASK_ADD, IN_CREATE | IN_DELETE, id="adds"),
        pytest.param(IN_CREATE | IN_ONESHOT, IN_DELETE, IN_DELETE, id="clears one-shot"),
        pytest.param(
            IN_CREATE | IN_EXCL_UNLINK,
            IN_DELETE | IN_MASK_ADD,
            IN_CREATE | IN_DELETE | IN_EXCL_UNLINK,
            id="keeps flags when adding",
        ),
    ],
)
def test_re_adding_changes_the_mask(first: int, second: int, left: int) -> None:
    consumer = Consumer()
    watch = consumer.watch(first)
    assert consumer.handle.find_update_watch(consumer.inode, second) == watch.wd
    assert watch.mask == left


def test_mask_create_refuses_a_watched_inode_where_it_is_known() -> None:
    consumer = Consumer()
    consumer.watch(IN_CREATE)
    with pytest.raises(WatchExists):
        consumer.handle.find_update_watch(consumer.inode, IN_DELETE | IN_MASK_CREATE)
    old = Consumer(LINUX_2_6_18)
    old.watch(IN_CREATE)
    assert old.handle.find_update_watch(old.inode, IN_DELETE | IN_MASK_CREATE) == 1


@pytest.mark.parametrize(
    ("policy", "mask", "accepted"),
    [
        pytest.param(LINUX_6, 0, False, id="linux-6: 0"),
        pytest.param(LINUX_6, IN_CREATE | 0x1000, False, id="linux-6: an unknown bit"),
        pytest.param(LINUX_6, IN_CREATE | IN_MASK_ADD | IN_MASK_CREATE, False, id="linux-6: both"),
        pytest.param(LINUX_6, IN_ONESHOT, True, id="linux-6: a flag alone"),
        pytest.param(LINUX_2_6_18, 0, False, id="linux-2.6.18: 0"),
        pytest.param(LINUX_2_6_18, IN_CREATE | 0x1000, True, id="linux-2.6.18: an unknown bit"),
        pytest.param(LINUX_2_6_18, IN_MASK_ADD, False, id="linux-2.6.18: a flag alone"),
    ],
)
def test_masks_that_are_refused(policy: Policy, mask: int, accepted: bool) -> None:
    consumer = Consumer(policy)
    if accepted:
        consumer.watch(mask)
    else:
        with pytest.raises(InvalidMask):
            consumer.watch(mask)


def test_a_descriptor_that_was_removed_is_unknown_and_never_used_again() -> None:
    consumer = Consumer()
    first = consumer.watch(IN_CREATE)
    consumer.handle.rm_wd(first.wd)
    with pytest.raises(NoSuchWatch):
        consumer.handle.rm_wd(first.wd)
    assert consumer.watch(IN_CREATE).wd == 2


def test_a_moved_name_is_found_at_its_new_place_only() -> None:
    core, top, sub, file = Core(), Inode(True), Inode(True), Inode(False)
    dentry = core.instantiate(top, b"a", file)
    core.move(dentry, sub, b"b")
    assert top.children == {}
    assert sub.children == {b"b": dentry}
    assert (file.dentry, dentry.parent, dentry.name) == (dentry, sub, b"b")


def test_a_name_found_to_be_another_object_drops_the_old_one() -> None:
    core, top, old, new = Core(), Inode(True), Inode(False), Inode(False)
    stale = core.instantiate(top, b"a", old)
    core.instantiate(top, b"a", new)
    assert stale.unlinked
    assert new.dentry is not None
    assert not new.dentry.unlinked


def test_a_descriptor_goes_by_the_last_name_of_all() -> None:
    core, top, file = Core(), Inode(True), Inode(False)
    first = core.instantiate(top, b"a", file)
    last = core.instantiate(top, b"b", file)
    core.unhash(first)
    core.unhash(last)
    assert file.dentry is last
    assert core.instantiate(top, b"c", file) is file.dentry
    assert list(file.aliases()) == [file.dentry]


def test_the_name_used_last_is_the_one_events_go_by() -> None:
    core, top, file = Core(), Inode(True), Inode(False)
    first = core.instantiate(top, b"a", file)
    second = core.instantiate(top, b"b", file)
    assert file.dentry is second
    core.instantiate(top, b"a", file)
    assert file.dentry is first


def test_names_are_known_in_the_order_of_their_last_use() -> None:
    core, top, file = Core(), Inode(True), Inode(False)
    a, b, c = (core.instantiate(top, name, file) for name in (b"a", b"b", b"c"))
    core.instantiate(top, b"b", file)
    assert list(file.aliases()) == [b, c, a]
    core.unhash(b)
    assert list(file.aliases()) == [c, a]
    core.unhash(a)
    assert list(file.aliases()) == [c]
    core.unhash(c)
    assert list(file.aliases()) == [c]
    assert c.unlinked
    assert top.children == {}


def test_a_directory_found_elsewhere_has_moved_and_has_one_name() -> None:
    core, top, sub, moved = Core(), Inode(True), Inode(True), Inode(True)
    dentry = core.instantiate(top, b"a", moved)
    assert core.instantiate(sub, b"b", moved) is dentry
    assert (dentry.parent, dentry.name, dentry.unlinked) == (sub, b"b", False)
    assert top.children == {}
    assert list(moved.aliases()) == [dentry]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_directories_that_changed_places_behind_us_make_no_circle(depth: int) -> None:
    core, top, upper = Core(), Inode(True), Inode(True)
    core.instantiate(top, b"upper", upper)
    lower = upper
    for _ in range(depth):
        above, lower = lower, Inode(True)
        core.instantiate(above, b"d", lower)
    core.instantiate(lower, b"upper", upper)  # seen before lower is seen elsewhere
    assert way_up(upper) == [lower, *way_up(lower)]
    core.instantiate(top, b"lower", lower)
    assert way_up(upper) == [lower, top]


def test_a_directory_in_itself_is_no_name() -> None:
    """As a bind mount of SOURCE in SOURCE is."""
    core, top, sub = Core(), Inode(True), Inode(True)
    core.instantiate(top, b"sub", sub)
    core.instantiate(sub, b"file", Inode(False))
    for inside, found in ((top, top), (sub, top), (sub, sub)):
        core.instantiate(inside, b"again", found)
        assert way_up(sub) == [top]
        assert way_up(top) == []


def way_up(inode: Inode) -> list[Inode]:
    way: list[Inode] = []
    while inode.dentry is not None and not inode.dentry.unlinked:
        inode = inode.dentry.parent
        assert inode not in way
        way.append(inode)
    return way


class ComparedDentry(Dentry):
    """A dentry that counts how often it is looked at to find another one."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        ComparedDentry.compared += 1
        return self is other

    __hash__ = Dentry.__hash__


def test_a_name_is_found_without_a_look_at_the_files_other_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fusenotify.engine.core.Dentry", ComparedDentry)
    names = [b"%d" % number for number in range(2000)]
    core, top, file = Core(), Inode(True), Inode(False)
    with counted_calls() as calls:
        for _ in range(2):
            for name in names:
                core.instantiate(top, name, file)
        assert top.children is not None
        for dentry in list(top.children.values()):
            core.unhash(dentry)
    assert top.children == {}
    assert ComparedDentry.compared < len(names)
    assert calls.number < 100 * len(names)


def test_a_deep_tree_is_freed_without_recursion() -> None:
    core, top = Core(), Inode(True)
    inode = top
    for _ in range(100_000):
        below = Inode(True)
        core.instantiate(inode, b"d", below)
        inode = below
    while inode.dentry is not None:
        above = inode.dentry.parent
        core.unhash(inode.dentry)
        held, inode.dentry = inode.dentry, None
        inode = above
    del held
    assert top.children == {}
