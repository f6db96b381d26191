# SPDX-License-Identifier: GPL-2.0-or-later
"""Tree watches: what they say, by which path, to whom, and what they cost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_DELETE,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_OPEN,
    IN_Q_OVERFLOW,
)
from fusenotify.credentials import Credentials
from fusenotify.engine.core import Inode
from fusenotify.engine.limits import Limits
from fusenotify.engine.time_share import BURST, SHARE, TimeShare
from fusenotify.engine.trees import DEEP, MOST_TOGETHER, SHORT, TOO_LONG
from fusenotify.errors import NoDirectory, TooManyTrees, TooManyWatches, WatchExists
from fusenotify.events import Event, unpack
from fusenotify.testing import EngineTree, assert_events
from fusenotify.testing.tree import EngineDevice
from tests.counting import counted_calls

ROOT, ALICE = Credentials(1, 0, 0), Credentials(1, 1000, 1000)


def watched(*paths: str, mask: int | str = IN_ALL_EVENTS) -> tuple[EngineTree, EngineDevice]:
    """Return a tree with these paths, and a device with a tree watch on its root."""
    engine = EngineTree()
    engine.prepare(*paths)
    device = engine.device()
    device.watch(".", mask, tree=True)
    return engine, device


# What it says.


def rmdir_while_open(engine: EngineTree) -> None:
    with engine.open("a/b"):
        engine.rmdir("a/b")


def use_a_file_behind_its_end(engine: EngineTree) -> None:
    with engine.open("a/f", writable=True) as file:
        engine.unlink("a/f")
        file.write()


def close_in_a_removed_directory(engine: EngineTree) -> None:
    with engine.open("a/b/c", writable=True):
        engine.unlink("a/b/c")
        engine.rmdir("a/b")


def use_what_moves(engine: EngineTree) -> None:
    with engine.open("a/b/f", writable=True) as file:
        engine.rename("a", "x")
        file.write()


def use_a_working_directory_that_is_gone(engine: EngineTree) -> None:
    """The kernel keeps the object, and the engine does not know that."""
    inode = engine.inode("a/b")
    engine.rmdir("a/b")
    engine.hooks.attributes_changed(inode, inode.dentry, owner_or_mode=True)


def rename_a_directory(engine: EngineTree) -> None:
    engine.rename("a/b", "x/y")
    engine.create("x/y/c/f")


def exchange_with_a_directory(engine: EngineTree) -> None:
    engine.exchange("a/f", "b/d")
    engine.create("a/f/x")


def use_both_names(engine: EngineTree) -> None:
    inode = engine.inode("a/f")
    engine.link("a/f", "b/g")
    engine.chmod("a/f")
    engine.core.instantiate(engine.inode("b"), b"g", inode)  # looked up
    engine.chmod("b/g")


CALLS: list[tuple[str, list[str], Callable[[EngineTree], object], list[str]]] = [
    ("in the watched directory", [], lambda e: e.create("f"), ["CREATE f"]),
    ("of the watched directory", [], lambda e: e.chmod("."), ["ATTRIB|ISDIR"]),
    ("create", ["a/b/"], lambda e: e.create("a/b/f"), ["CREATE a/b/f"]),
    ("mkdir", ["a/b/"], lambda e: e.mkdir("a/b/c"), ["CREATE|ISDIR a/b/c"]),
    (
        "opendir",
        ["a/b/"],
        lambda e: e.open("a/b").close(),
        [
            "OPEN|ISDIR a/b",
            "OPEN|ISDIR a/b/",
            "CLOSE_NOWRITE|ISDIR a/b",
            "CLOSE_NOWRITE|ISDIR a/b/",
        ],
    ),
    (
        "open, write, close",
        ["a/b/f"],
        lambda e: e.write("a/b/f"),
        ["OPEN a/b/f", "MODIFY a/b/f", "CLOSE_WRITE a/b/f"],
    ),
    (
        "chmod of a directory",
        ["a/b/"],
        lambda e: e.chmod("a/b"),
        ["ATTRIB|ISDIR a/b", "ATTRIB|ISDIR a/b/"],
    ),
    ("chmod of a file", ["a/f"], lambda e: e.chmod("a/f"), ["ATTRIB a/f"]),
    ("rmdir", ["a/b/"], lambda e: e.rmdir("a/b"), ["DELETE_SELF a/b/", "DELETE|ISDIR a/b"]),
    ("unlink", ["a/f"], lambda e: e.unlink("a/f"), ["DELETE a/f"]),
    ("link", ["a/f", "b/"], lambda e: e.link("a/f", "b/g"), ["CREATE b/g"]),
    (
        "rmdir while open",
        ["a/b/"],
        rmdir_while_open,
        [
            "OPEN|ISDIR a/b",
            "OPEN|ISDIR a/b/",
            "DELETE|ISDIR a/b",
            "CLOSE_NOWRITE|ISDIR a/b",
            "CLOSE_NOWRITE|ISDIR a/b/",
            "DELETE_SELF a/b/",
        ],
    ),
    (
        "unlink while open",
        ["a/f"],
        use_a_file_behind_its_end,
        ["OPEN a/f", "DELETE a/f", "MODIFY a/f", "CLOSE_WRITE a/f"],
    ),
    (
        "close in a removed directory",
        ["a/b/c"],
        close_in_a_removed_directory,
        [
            "OPEN a/b/c",
            "DELETE a/b/c",
            "DELETE|ISDIR a/b",
            "CLOSE_WRITE a/b/c",
            "DELETE_SELF a/b/",
        ],
    ),
    (
        "use of a removed directory",
        ["a/b/"],
        use_a_working_directory_that_is_gone,
        ["DELETE_SELF a/b/", "DELETE|ISDIR a/b", "ATTRIB|ISDIR a/b"],
    ),
    (
        "rename of a file",
        ["a/f", "b/"],
        lambda e: e.rename("a/f", "b/g"),
        ["MOVED_FROM a/f #1", "MOVED_TO b/g #1"],
    ),
    (
        "rename of a directory",
        ["a/b/c/", "x/"],
        rename_a_directory,
        [
            "MOVED_FROM|ISDIR a/b #1",
            "MOVED_TO|ISDIR x/y #1",
            "MOVE_SELF x/y/",
            "CREATE x/y/c/f",
        ],
    ),
    (
        "rename over a directory",
        ["a/b/", "a/c/"],
        lambda e: e.rename("a/b", "a/c"),
        [
            "MOVED_FROM|ISDIR a/b #1",
            "MOVED_TO|ISDIR a/c #1",
            "ATTRIB|ISDIR a/c/",
            "MOVE_SELF a/c/",
            "DELETE_SELF a/c/",
        ],
    ),
    (
        "rename over a file",
        ["a/f", "a/g"],
        lambda e: e.rename("a/f", "a/g"),
        ["MOVED_FROM a/f #1", "MOVED_TO a/g #1"],
    ),
    (
        "exchange of a file and a directory",
        ["a/f", "b/d/"],
        exchange_with_a_directory,
        [
            "MOVED_FROM a/f #1",
            "MOVED_TO b/d #1",
            "MOVED_FROM|ISDIR b/d #2",
            "MOVED_TO|ISDIR a/f #2",
            "MOVE_SELF a/f/",
            "CREATE a/f/x",
        ],
    ),
    (
        "write behind the rename of a directory",
        ["a/b/f"],
        use_what_moves,
        [
            "OPEN a/b/f",
            "MOVED_FROM|ISDIR a #1",
            "MOVED_TO|ISDIR x #1",
            "MOVE_SELF x/",
            "MODIFY x/b/f",
            "CLOSE_WRITE x/b/f",
        ],
    ),
    (
        "a file with two names",
        ["a/f", "b/"],
        use_both_names,
        ["CREATE b/g", "ATTRIB a/f", "ATTRIB b/g"],
    ),
]


@pytest.mark.parametrize(
    ("paths", "call", "expected"),
    [pytest.param(*call[1:], id=call[0]) for call in CALLS],
)
def test_a_tree_watch_says(
    paths: list[str], call: Callable[[EngineTree], object], expected: list[str]
) -> None:
    engine, device = watched(*paths)
    call(engine)
    assert_events(device, expected)


def test_a_directory_moved_in_is_one_moved_to_and_watched_from_then_on() -> None:
    engine = EngineTree()
    engine.prepare("in/", "out/a/b/f")
    device = engine.device()
    device.watch("in", tree=True)
    engine.rename("out/a", "in/a")
    engine.write("in/a/b/f")
    assert_events(device, ["MOVED_TO|ISDIR a", "OPEN a/b/f", "MODIFY a/b/f", "CLOSE_WRITE a/b/f"])


def test_a_directory_moved_out_is_one_moved_from_and_no_longer_watched() -> None:
    engine = EngineTree()
    engine.prepare("in/a/b/f", "out/")
    device = engine.device()
    device.watch("in", tree=True)
    engine.write("in/a/b/f")
    device.take()
    engine.rename("in/a", "out/a")
    engine.write("out/a/b/f")
    engine.chmod("out/a")
    assert_events(device, ["MOVED_FROM|ISDIR a"])


def test_an_exchange_over_the_trees_edge_says_only_what_the_directories_in_it_say() -> None:
    engine = EngineTree()
    engine.prepare("in/a/", "out/b/")
    device = engine.device()
    device.watch("in", tree=True)
    engine.exchange("in/a", "out/b")
    engine.create("in/a/f")
    engine.create("out/b/f")
    assert_events(device, ["MOVED_FROM|ISDIR a #1", "MOVED_TO|ISDIR a #2", "CREATE a/f"])


def test_the_watched_directory_alone_says_that_it_moved_is_gone_and_ignored() -> None:
    engine = EngineTree()
    engine.prepare("a/b/")
    device = engine.device()
    device.watch("a", tree=True)
    engine.rename("a", "c")
    engine.create("c/b/f")
    engine.unlink("c/b/f")
    engine.rmdir("c/b")
    engine.rmdir("c")
    assert_events(
        device,
        ["MOVE_SELF", "CREATE b/f", "DELETE b/f", "DELETE_SELF b/", "DELETE|ISDIR b"]
        + ["DELETE_SELF", "IGNORED"],
    )


def test_unmounting_is_said_of_the_watched_directory_alone() -> None:
    engine, device = watched("a/b/")
    engine.unmount()
    assert_events(device, ["UNMOUNT|ISDIR", "IGNORED"])


def test_trees_in_trees_each_say_their_own_path() -> None:
    engine = EngineTree()
    engine.prepare("a/b/c/")
    device = engine.device()
    device.watch(".", tree=True)
    device.watch("a/b", tree=True)
    engine.create("a/b/c/f")
    engine.create("a/f")
    assert_events(device, ["a/b: CREATE c/f", ".: CREATE a/b/c/f", ".: CREATE a/f"])


def test_a_watch_and_a_tree_watch_on_one_directory_are_two() -> None:
    engine = EngineTree()
    engine.prepare("a/b/")
    device = engine.device()
    first, second = device.watch("a"), device.watch("a", tree=True)
    assert first != second
    engine.create("a/f")
    engine.create("a/b/f")
    assert {(seen.name, seen.watch) for seen in device.take()} == {(b"f", "a"), (b"b/f", "a")}
    assert device.watch("a", "DELETE") == first
    assert device.watch("a", "CREATE", tree=True) == second
    engine.create("a/g")
    engine.unlink("a/g")
    assert_events(device, ["CREATE g", "DELETE g"])


# Flags.


def test_a_one_shot_tree_watch_ends_with_the_first_event_anywhere() -> None:
    engine, device = watched("a/b/", mask="CREATE|ONESHOT")
    engine.chmod("a/b")
    engine.create("a/b/f")
    engine.create("a/b/g")
    assert_events(device, ["CREATE a/b/f", "IGNORED"])
    assert engine.table.users.counts(0).trees == 0


def test_in_2_6_18_a_one_shot_tree_watch_goes_silently() -> None:
    engine = EngineTree()
    engine.prepare("a/b/")
    device = engine.device(semantics="linux-2.6.18")
    device.watch(".", "CREATE|ONESHOT", tree=True)
    engine.create("a/b/f")
    engine.create("a/b/g")
    assert_events(device, ["CREATE a/b/f"])
    assert engine.table.users.counts(0).trees == 0


def test_excl_unlink_holds_in_the_whole_tree() -> None:
    engine, device = watched("a/f", mask="ALL_EVENTS|EXCL_UNLINK")
    use_a_file_behind_its_end(engine)
    assert_events(device, ["OPEN a/f", "DELETE a/f"])


def test_masks_are_replaced_and_added_to() -> None:
    engine, device = watched("a/", mask=IN_CREATE)
    device.watch(".", IN_DELETE | IN_MASK_ADD, tree=True)
    engine.create("a/f")
    engine.unlink("a/f")
    assert_events(device, ["CREATE a/f", "DELETE a/f"])
    with pytest.raises(WatchExists):
        device.watch(".", IN_DELETE | IN_MASK_CREATE, tree=True)
    device.watch(".", IN_DELETE | IN_MASK_CREATE)


def test_a_tree_watch_stands_on_a_directory_only() -> None:
    engine, device = watched("f")
    with pytest.raises(NoDirectory) as refused:
        device.raw.add_watch(engine.inode("f"), IN_CREATE, tree=True)
    assert refused.value.errno == errno.ENOTDIR


# Merging, queues, rest.


def test_equal_records_of_one_directory_merge() -> None:
    engine, device = watched("a/f")
    engine.chmod("a/f")
    engine.chmod("a/f")
    assert_events(device, ["ATTRIB a/f"])


@pytest.mark.parametrize("semantics", ["linux-6", "linux-2.6.18"])
def test_equal_records_of_two_directories_do_not_merge(semantics: str) -> None:
    engine = EngineTree()
    device = engine.device(semantics=semantics)
    device.watch(".", "DELETE_SELF", tree=True)
    for _ in range(2):
        engine.mkdir("a")
        engine.rmdir("a")
    assert_events(device, ["DELETE_SELF a/", "DELETE_SELF a/"])


def test_a_full_queue_overflows_once_and_the_watch_rests_until_it_is_read() -> None:
    engine = EngineTree()
    engine.prepare("a/b/")
    device = engine.device(max_queued_events=2)
    device.watch(".", "CREATE", tree=True)
    for number in range(10):
        engine.create(f"a/b/{number}")
    assert engine.root.watches[-1].handle is engine.table.rest
    assert (device.raw.lost, engine.table.statistics.lost) == (8, 8)
    assert_events(device, ["CREATE a/b/0", "CREATE a/b/1", "Q_OVERFLOW"])
    engine.create("a/b/x")
    assert_events(device, ["CREATE a/b/x"])


def test_a_thousand_stuck_tree_watches_rest_as_one() -> None:
    engine = EngineTree(Limits(max_user_instances=2000, max_user_trees=2000))
    engine.prepare("a/b/")
    devices = [engine.device(max_queued_events=1) for _ in range(1000)]
    for device in devices:
        device.watch(".", "CREATE", tree=True)
    for number in range(3):
        engine.create(f"a/b/{number}")
    assert len(engine.root.watches) == 2  # the statistics', and one for all
    assert {device.raw.lost for device in devices} == {2}
    devices[0].rm_watch(1)
    for device in devices:
        device.close()
    assert not engine.root.watches
    assert not engine.core.trees.roots


def test_a_tree_watch_and_a_watch_of_one_device_rest_side_by_side() -> None:
    engine = EngineTree()
    engine.prepare("a/")
    device = engine.device(max_queued_events=1)
    first, second = device.watch(".", "CREATE"), device.watch(".", "CREATE", tree=True)
    for number in range(4):
        engine.create(f"{number}")
        engine.create(f"a/{number}")
    assert device.raw.lost == 11
    device.rm_watch(first)
    device.rm_watch(second)
    device.take()
    assert not engine.root.watches


def test_records_have_the_length_of_their_path() -> None:
    deep = "/".join(["x" * 200] * 40)
    engine, device = watched(f"{deep}/", mask=IN_CREATE)
    engine.create(f"{deep}/f")
    size = 16 + (len(deep) + 2 + 1 + 15) // 16 * 16
    assert device.raw.fionread() == size
    with pytest.raises(OSError, match="the first record takes") as refused:
        device.raw.read(size - 1)
    assert refused.value.errno == errno.EINVAL
    assert [*unpack(device.raw.read(size))] == [Event(1, IN_CREATE, 0, f"{deep}/f".encode())]


def test_paths_overflow_before_they_take_more_than_a_user_may_have() -> None:
    deep = "/".join(["x" * 250] * 400)  # 100 kB
    engine = EngineTree()
    engine.prepare(f"{deep}/")
    devices = [engine.device(uid=uid, max_queued_events=1000) for uid in (1, 1, 2)]
    for device in devices[1:]:
        device.watch(".", "CREATE", tree=True)
    for number in range(900):  # 90 MB
        engine.create(f"{deep}/{number}")
    taken = [device.take() for device in devices[1:]]
    for device, seen in zip(devices[1:], taken, strict=True):
        assert 650 < len(seen) < 690
        assert seen[-1].mask == IN_Q_OVERFLOW
        assert device.raw.lost == 901 - len(seen)
    # What was read is room again, for each of the user's devices.
    devices[0].watch(".", "CREATE", tree=True)
    devices[1].close()
    for number in range(600):
        engine.create(f"{deep}/again-{number}")
    assert [len(devices[number].take()) for number in (0, 2)] == [600, 600]
    for device in devices:
        device.close()
    assert engine.table.users.all() == {}


def test_all_queues_of_a_user_share_the_room_for_paths() -> None:
    deep = "/".join(["x" * 250] * 400)  # 100 kB
    engine = EngineTree()
    engine.prepare(f"{deep}/")
    devices = [engine.device(uid=uid, max_queued_events=1000) for uid in (1, 1, 1, 2)]
    for device in devices:
        device.watch(".", "CREATE", tree=True)
    for number in range(400):  # 40 MB
        engine.create(f"{deep}/{number}")
    counts = [len(device.take()) for device in devices]
    assert counts[3] == 400
    assert sum(counts[:3]) < 800
    assert min(counts) > 10  # what each has for itself


def test_a_path_that_no_read_could_give_is_lost_and_the_loss_is_told() -> None:
    engine = EngineTree()
    names = [b"x" * 250] * 4300
    directory: Inode = engine.root
    for name in names:
        inode = Inode(is_dir=True)
        engine.core.instantiate(directory, name, inode)
        directory = inode
    device = engine.device()
    device.watch(".", "CREATE", tree=True)
    engine.hooks.created(directory, b"f", Inode(is_dir=False))
    engine.create("f")
    assert_events(device, ["Q_OVERFLOW"])
    engine.create("g")
    assert_events(device, ["CREATE g"])


# Limits and counts.


def test_tree_watches_have_a_limit_of_their_own_and_count_as_watches() -> None:
    engine = EngineTree(Limits(max_user_watches=3, max_user_trees=2))
    engine.prepare("a/", "b/", "c/", "d/")
    device = engine.device(uid=7)
    device.watch("a", tree=True)
    wd = device.watch("b", tree=True)
    with pytest.raises(TooManyTrees, match="max_user_trees = 2") as refused:
        device.watch("c", tree=True)
    assert refused.value.errno == errno.ENOSPC
    device.watch("b", IN_OPEN, tree=True)  # there is one already
    device.watch("c")
    with pytest.raises(TooManyWatches, match="max_user_watches = 3"):
        device.watch("d")
    device.rm_watch(wd)
    counts = engine.table.users.counts(7)
    assert (counts.watches, counts.trees) == (2, 1)
    device.close()
    assert engine.table.users.all() == {}


def test_nothing_is_known_of_trees_when_the_last_watch_is_gone() -> None:
    engine, device = watched("a/b/c/")
    engine.create("a/b/c/f")
    device.rm_watch(1)
    assert not engine.core.trees.roots
    assert not engine.core.trees.known
    assert not engine.root.watches


# Statistics.


def test_each_event_in_a_tree_counts_once_for_its_directory() -> None:
    engine = EngineTree()
    engine.prepare("a/b/")
    for _ in range(2):
        device = engine.device()
        device.watch(".", "CREATE", tree=True)
        device.watch("a", "CREATE", tree=True)
        device.watch("a", "CREATE")
        device.watch("a/b", "CREATE")
    for path in ("f", "a/f", "a/b/f", "a/b/g"):
        engine.create(path)
    statistics = engine.table.statistics
    assert statistics.events() == {"CREATE": 4}
    assert statistics.directories(9) == [(b"/a/b", 2), (b"/", 1), (b"/a", 1)]


def test_an_event_counts_once_also_where_watches_come_and_go() -> None:
    engine, device = watched("a/b/", mask=IN_CREATE)
    statistics = engine.table.statistics
    made = 0

    def make() -> None:
        nonlocal made
        for path in ("a", "a/b"):
            made += 1
            engine.create(f"{path}/{made}")
        assert statistics.events() == {"CREATE": made}

    make()
    wd = device.watch("a/b")
    make()
    tree = device.watch("a", tree=True)
    make()
    device.rm_watch(wd)
    make()
    device.rm_watch(tree)
    make()
    assert sorted(statistics.directories(9)) == [(b"/a", made // 2), (b"/a/b", made // 2)]


def test_directories_below_a_tree_are_remembered_after_its_end() -> None:
    engine, device = watched("a/b/", mask=IN_CREATE)
    engine.create("a/b/f")
    engine.chmod("a/b")
    engine.rename("a", "c")
    engine.create("c/b/g")
    statistics = engine.table.statistics
    before = statistics.directories(9)
    # What a/b was told of itself is its own; of a/b as an entry it is a's.
    assert sorted(before) == [(b"/", 2), (b"/a", 1), (b"/a/b", 2), (b"/c", 1), (b"/c/b", 1)]
    device.close()
    assert sorted(statistics.directories(9)) == sorted(before)


# Who may hear.


class Modes:
    """Permissions of a test: which directories may not be read, which not searched."""

    def __init__(self, engine: EngineTree) -> None:
        self.unreadable: set[Inode] = set()
        self.unsearchable: set[Inode] = set()
        self.asked = 0
        engine.core.trees.permissions = self

    def may_refuse(self, who: Credentials) -> bool:
        return who.uid != 0

    def may_read(self, directory: Inode, who: Credentials) -> bool:
        self.asked += 1
        return not who.uid or directory not in self.unreadable

    def may_search(self, directory: Inode, who: Credentials) -> bool:
        self.asked += 1
        return not who.uid or directory not in self.unsearchable


class Guarded:
    """A tree a/b/c in which Alice has a tree watch, and root has one."""

    def __init__(self) -> None:
        self.engine = EngineTree()
        self.modes = Modes(self.engine)
        self.now = 100.0
        trees = self.engine.core.trees
        trees.clock = lambda: self.now
        # Each question takes a tenth of a millisecond.
        trees.times[ALICE.uid] = TimeShare(lambda: self.now, lambda: self.modes.asked * 1e-4)
        self.engine.prepare("a/b/c/")
        self.root, self.alice = (
            EngineDevice(self.engine.table.init(who.uid, who=who), self.engine)
            for who in (ROOT, ALICE)
        )
        for device in (self.root, self.alice):
            device.watch(".", "CREATE|MOVE", tree=True)
        self._made = 0

    def heard(self, directory: str) -> bool:
        """Return whether Alice hears of a new entry; root does."""
        self._made += 1
        path = f"{directory}/{self._made}"
        self.engine.create(path)
        assert_events(self.root, [f"CREATE {path}"])
        return bool(self.alice.take())


def test_a_user_who_may_not_read_a_directory_gets_no_events_of_its_entries() -> None:
    tree = Guarded()
    tree.modes.unreadable.add(tree.engine.inode("a/b"))
    assert not tree.heard("a/b")
    assert tree.heard("a")
    assert tree.heard("a/b/c")  # searching is enough for what is below


@pytest.mark.parametrize("closed", ["", "a", "a/b"])
def test_a_user_who_may_not_search_a_directory_above_gets_no_events(closed: str) -> None:
    tree = Guarded()
    tree.modes.unsearchable.add(tree.engine.inode(closed))
    assert not tree.heard("a/b/c")


def test_each_user_gets_the_half_of_a_rename_that_they_may_see() -> None:
    tree = Guarded()
    tree.engine.prepare("a/b/c/f", "a/open/")
    tree.modes.unreadable.add(tree.engine.inode("a/b/c"))
    tree.engine.rename("a/b/c/f", "a/open/f")
    assert_events(tree.alice, ["MOVED_TO a/open/f"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tree: tree.engine.chmod("a"), id="mode or owner"),
        pytest.param(lambda tree: tree.engine.setxattr("a"), id="ACL"),
        pytest.param(lambda tree: setattr(tree, "now", tree.now + 1.0), id="a second passed"),
    ],
)
def test_a_verdict_is_asked_for_again_when_it_may_be_another(
    change: Callable[[Guarded], object],
) -> None:
    tree = Guarded()
    assert tree.heard("a/b")
    tree.modes.unsearchable.add(tree.engine.inode("a"))
    assert tree.heard("a/b")  # behind the filesystem: for a second at most
    change(tree)
    assert not tree.heard("a/b")


def test_a_verdict_is_another_where_a_directory_was_moved() -> None:
    tree = Guarded()
    tree.engine.prepare("closed/")
    tree.modes.unsearchable.add(tree.engine.inode("closed"))
    assert tree.heard("a/b")
    tree.engine.rename("a/b", "closed/b")
    tree.alice.take()
    tree.root.take()
    assert not tree.heard("closed/b")


def test_verdicts_are_remembered_for_all_watches_of_a_user() -> None:
    tree = Guarded()
    other = EngineDevice(tree.engine.table.init(1000, who=ALICE), tree.engine)
    other.watch(".", "CREATE", tree=True)
    tree.heard("a/b/c")
    asked = tree.modes.asked
    for _ in range(50):
        tree.heard("a/b/c")
    assert tree.modes.asked == asked


def test_stuck_watches_of_two_users_lose_what_is_for_each() -> None:
    tree = Guarded()
    devices = [
        EngineDevice(tree.engine.table.init(who.uid, who=who, max_queued_events=1), tree.engine)
        for who in (ROOT, ALICE)
    ]
    for device in devices:
        device.watch(".", "CREATE", tree=True)
    tree.modes.unreadable.add(tree.engine.inode("a/b"))
    for number in range(3):
        tree.engine.create(f"a/{number}")
    for number in range(5):
        tree.engine.create(f"a/b/{number}")
    assert [device.raw.lost for device in devices] == [7, 2]


# What it costs.


def test_nothing_goes_up_or_down_a_deep_tree_by_recursion() -> None:
    names = "/".join(["d"] * 3000)
    engine, device = watched(f"{names}/", mask=IN_CREATE)
    engine.create(f"{names}/f")
    engine.rename("d", "e")
    engine.create(f"e/{names[2:]}/g")
    assert [seen.name for seen in device.take()] == [
        os.fsencode(f"{names}/f"),
        os.fsencode(f"e/{names[2:]}/g"),
    ]


def test_deep_trees_are_heard_by_permission_without_recursion() -> None:
    tree = Guarded()
    names = "/".join(["d"] * 3000)
    tree.engine.prepare(f"{names}/")
    assert tree.heard(names)


def test_permissions_are_asked_for_once_however_many_directories_above_are_watched() -> None:
    tree = Guarded()
    names = ["d"] * 500
    tree.engine.prepare("/".join(names) + "/")
    for level in range(1, 100):
        tree.alice.watch("/".join(names[:level]), "CREATE", tree=True)
    tree.modes.unsearchable.add(tree.engine.inode("/".join(names[:50])))
    tree.engine.chmod("a")
    tree.modes.asked = 0
    tree.engine.create("/".join([*names, "f"]))
    assert tree.modes.asked <= len(names) + 2
    heard = [event.name for event in tree.alice.take()]
    assert heard == [os.fsencode("/".join([*names[level:], "f"])) for level in range(99, 50, -1)]


def test_memory_for_paths_is_bounded_however_deep_and_many_the_directories_are() -> None:
    deep = "/".join(["x" * 250] * 400)  # 100 kB
    engine, _ = watched(f"{deep}/", mask=IN_CREATE)
    for number in range(200):
        engine.prepare(f"{deep}/{number}/")
        engine.create(f"{deep}/{number}/f")
    trees = engine.core.trees
    assert sum(len(path) for above in trees.known.values() for _, path in above) <= 8 * 2**20


def test_a_path_for_each_of_a_hundred_watched_directories_above_takes_no_more_than_a_few() -> None:
    names = [f"{number:0200}" for number in range(2000)]  # 400 kB
    engine = EngineTree()
    engine.prepare("/".join(names) + "/")
    top, device, near = engine.device(), engine.device(), engine.device()
    top.watch(".", IN_CREATE, tree=True)
    for level in range(1, 120):
        device.watch("/".join(names[:level]), IN_CREATE, tree=True)
    near.watch("/".join(names[:-50]), IN_CREATE, tree=True)
    directory = engine.inode("/".join(names))
    paths = {path for _, path in engine.core.trees.above(directory) if path is not TOO_LONG}
    assert MOST_TOGETHER // 2 < sum(map(len, paths)) <= MOST_TOGETHER + SHORT
    engine.create("/".join([*names, "f"]))
    assert_events(top, ["CREATE " + "/".join([*names, "f"])])
    assert_events(near, ["CREATE " + "/".join([*names[-50:], "f"])])
    assert IN_Q_OVERFLOW in [event.mask for event in unpack(device.raw.read(1 << 24))]


def test_patterns_say_nothing_of_a_path_that_was_not_made() -> None:
    deep = "/".join(["x" * 250] * 4200)  # a megabyte and more
    engine = EngineTree()
    engine.prepare(f"{deep}/")
    device = engine.device()
    device.watch(".", IN_CREATE, tree=True, exclude=["*"])
    engine.create(f"{deep}/f")
    assert_events(device, ["Q_OVERFLOW"])


def test_memory_for_ways_and_verdicts_is_bounded_however_many_directories_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fusenotify.engine.trees._MOST_VERDICTS", 1000)
    tree = Guarded()
    trees = tree.engine.core.trees
    top = tree.engine.inode("a")
    verdicts = []
    for number in range(20_000):
        directory = Inode(is_dir=True)
        tree.engine.core.instantiate(top, b"%d" % number, directory)
        tree.engine.hooks.created(directory, b"f", Inode(is_dir=False))
        hearing = trees.hearing(ALICE)
        assert hearing is not None
        verdicts.append(len(hearing._readable) + len(hearing._searchable))
    assert len(trees.known) <= 8 * 2**20 / 800
    assert max(verdicts) <= 1000


def test_deep_directories_are_checked_within_the_users_share_of_time_or_lost() -> None:
    tree = Guarded()
    trees = tree.engine.core.trees
    deep = "a/b/c" + "/d" * DEEP
    tree.engine.prepare(f"{deep}/")
    assert not trees.times[ALICE.uid].wait()
    lost = asked = 0
    for number in range(100):
        tree.now += 0.01
        trees.permissions_changed()
        before = tree.modes.asked
        tree.engine.create(f"{deep}/{number}")
        asked += tree.modes.asked - before
        (event,) = tree.alice.take()
        lost += event.mask == IN_Q_OVERFLOW
        tree.engine.create(f"a/b/{number}")
        assert_events(tree.alice, [f"CREATE a/b/{number}"])
    assert lost > 90
    # A tenth of the second that went by, and a burst.
    assert asked * 1e-4 < SHARE * 1.0 + 2 * BURST


def test_a_user_without_time_has_none_with_the_next_device_either() -> None:
    tree = Guarded()
    deep = "a/b/c" + "/d" * (10 * DEEP)
    tree.engine.prepare(f"{deep}/")
    tree.engine.create(f"{deep}/f")
    assert_events(tree.alice, ["Q_OVERFLOW"])
    tree.alice.raw.close()
    device = EngineDevice(tree.engine.table.init(ALICE.uid, who=ALICE), tree.engine)
    device.watch(".", "CREATE", tree=True)
    tree.modes.asked = 0
    tree.engine.create(f"{deep}/g")
    assert_events(device, ["Q_OVERFLOW"])
    assert not tree.modes.asked


def test_a_tree_watch_is_set_up_and_moved_in_no_time_however_large_the_tree_is() -> None:
    engine = EngineTree()
    top = engine.mkdir("a")
    for number in range(100):
        directory = Inode(is_dir=True)
        engine.core.instantiate(top, b"%d" % number, directory)
        for inner in range(1000):
            engine.core.instantiate(directory, b"%d" % inner, Inode(is_dir=True))
    device = engine.device()
    with counted_calls() as calls:
        device.watch(".", tree=True)
        engine.rename("a", "b")
    assert calls.number < 1000
    assert not engine.core.trees.known or len(engine.core.trees.known) < 10


def test_directories_that_lead_in_a_circle_are_in_no_tree() -> None:
    """Names changed behind the filesystem may form a circle for a while."""
    engine, device = watched("x/")
    first, second = Inode(is_dir=True), Inode(is_dir=True)
    engine.core.instantiate(first, b"second", second)
    engine.core.instantiate(second, b"first", first)
    engine.hooks.created(first, b"f", Inode(is_dir=False))
    assert_events(device, [])
