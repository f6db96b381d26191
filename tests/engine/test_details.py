# SPDX-License-Identifier: GPL-2.0-or-later
"""What a detailed device says of an event: its number, its time, who did it, both names."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

import pytest

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_IGNORED,
    IN_MODIFY,
    IN_MOVE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONESHOT,
    IN_Q_OVERFLOW,
    names,
)
from fusenotify.credentials import Credentials
from fusenotify.engine import limits
from fusenotify.engine.core import Inode
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.details import QueuedEvent
from fusenotify.engine.exclusion import Exclusion
from fusenotify.engine.policy import LINUX_2_6_18, Policy
from fusenotify.errors import BufferTooSmall, DeviceClosed, QueueEmpty
from fusenotify.events import MOST_BYTES, detailed_size
from fusenotify.testing import EngineTree

EVERYTHING = 1 << 30


@dataclass
class Thread:
    """Who acts: a thread of process pid // 10 * 10."""

    pid: int
    uid: int = 1000
    gid: int = 100


class Tree(EngineTree):
    """A tree whose clock counts its ticks, and whose processes are named for their numbers."""

    def __init__(self, *paths: str) -> None:
        super().__init__()
        self.prepare(*paths)
        ticks = count(1)
        self.core.details.clock = lambda: next(ticks)
        self.core.details.process_of = lambda thread: thread // 10 * 10
        self.core.details.command_of = lambda process: b"p%d" % process

    def detailed(
        self, uid: int = 0, *, limit: int | None = None, policy: Policy | None = None
    ) -> DetailedDevice:
        return self.table.init_detailed(uid, max_queued_events=limit, policy=policy)

    def watching(
        self, path: str = ".", mask: int = IN_ALL_EVENTS, *, uid: int = 0, limit: int | None = None
    ) -> DetailedDevice:
        """Return a device with a tree watch."""
        device = self.detailed(uid, limit=limit)
        device.add_watch(self.inode(path), mask, tree=True)
        return device


def taken(device: DetailedDevice) -> list[QueuedEvent]:
    return device.read_events(EVERYTHING)


def lines(device: DetailedDevice) -> list[str]:
    """Return what is queued, one line an event: EVENTS[ OLD ->][ PATH]."""
    shown = []
    for event in taken(device):
        old = "" if event.old_path is None else f" {event.old_path.decode()} ->"
        path = "" if event.path is None else f" {event.path.decode()}"
        shown.append("|".join(names(event.mask)) + old + path)
    return shown


# Numbers and times.


def test_an_event_has_one_number_and_one_time_on_all_devices() -> None:
    tree = Tree("a/")
    one, other = tree.watching(), tree.detailed()
    other.add_watch(tree.inode("a"), IN_CREATE)
    for name in ("a/x", "y", "a/z"):
        tree.create(name)
    all_of_them = {event.path: (event.sequence, event.time) for event in taken(one)}
    assert list(all_of_them.values()) == [(1, 1), (2, 2), (3, 3)]
    assert [(e.path, (e.sequence, e.time)) for e in taken(other)] == [
        (b"x", all_of_them[b"a/x"]),
        (b"z", all_of_them[b"a/z"]),
    ]


def test_numbers_grow_while_nobody_asks_and_count_only_watched_events() -> None:
    tree = Tree("a/", "f")
    device = tree.detailed()
    device.add_watch(tree.inode("a"), IN_CREATE)
    tree.chmod("f")
    tree.create("a/x")
    before = taken(device)[0].sequence
    device.close()
    tree.create("a/y")
    device = tree.watching("a")
    tree.create("a/z")
    assert (before, taken(device)[0].sequence) == (1, 2)


def test_the_halves_of_a_rename_have_one_number_and_the_ends_of_watches_their_own() -> None:
    tree = Tree("a/f", "b/")
    one = tree.detailed()
    for directory in ("a", "b"):
        one.add_watch(tree.inode(directory), IN_ALL_EVENTS)
    tree.rename("a/f", "b/g")
    tree.rmdir("a")
    events = taken(one)
    assert [event.sequence for event in events] == [1, 1, 2, 3]
    assert events[0].cookie == events[1].cookie != 0
    assert names(events[3].mask) == ["IGNORED"]


def test_nothing_is_numbered_while_no_detailed_device_is_there() -> None:
    tree = Tree()
    plain = tree.device()
    plain.watch(".")
    assert "queue_event" not in vars(tree.core)
    device = tree.detailed()
    other = tree.detailed()
    device.close()
    assert "queue_event" in vars(tree.core)
    other.close()
    other.close()
    assert "queue_event" not in vars(tree.core)
    assert not tree.core.asks_for_processes
    tree.create("f")
    assert tree.core.details.sequence == 0


# Paths.


def test_a_directory_is_one_wherever_that_is_said() -> None:
    tree = Tree("a/f")
    device = tree.watching()
    device.add_watch(tree.inode("a"), IN_ALL_EVENTS)
    device.add_watch(tree.inode("a/f"), IN_ALL_EVENTS)
    tree.chmod("a")
    tree.rename("a", "b")
    tree.chmod("b/f")
    assert {(event.wd, event.path): event.is_dir for event in taken(device)} == {
        (1, b"a"): True,
        (1, b"a/"): True,
        (2, None): True,
        (1, b"b"): True,
        (1, b"b/"): True,
        (1, b"b/f"): False,
        (2, b"f"): False,
        (3, None): False,
    }


RENAMES: list[tuple[str, Callable[[Tree], object], list[str]]] = [
    ("in one directory", lambda t: t.rename("in/a/f", "in/a/g"), ["MOVED_TO a/f -> a/g"]),
    ("elsewhere below", lambda t: t.rename("in/a/f", "in/b/d/g"), ["MOVED_TO a/f -> b/d/g"]),
    ("up to the watched directory", lambda t: t.rename("in/a/f", "in/g"), ["MOVED_TO a/f -> g"]),
    ("down from it", lambda t: t.rename("in/f", "in/a/g"), ["MOVED_TO f -> a/g"]),
    ("over a file", lambda t: t.rename("in/a/f", "in/b/f"), ["MOVED_TO a/f -> b/f"]),
    ("of a directory", lambda t: t.rename("in/b", "in/c"), ["MOVED_TO|ISDIR b -> c"]),
    (
        "an exchange",
        lambda t: t.exchange("in/a/f", "in/b/d"),
        ["MOVED_TO a/f -> b/d", "MOVED_TO|ISDIR b/d -> a/f"],
    ),
    ("out of the tree", lambda t: t.rename("in/a/f", "out/f"), ["MOVED_FROM a/f"]),
    ("into the tree", lambda t: t.rename("out/g", "in/a/g"), ["MOVED_TO a/g"]),
]


@pytest.mark.parametrize(
    ("call", "said"), [pytest.param(*case[1:], id=case[0]) for case in RENAMES]
)
def test_a_rename_that_a_watch_sees_whole_is_one_event(
    call: Callable[[Tree], object], said: list[str]
) -> None:
    tree = Tree("in/a/f", "in/b/d/", "in/b/f", "in/f", "out/g")
    device = tree.watching("in", IN_MOVE)
    call(tree)
    assert lines(device) == said


def test_each_watch_of_a_device_has_its_view_of_a_rename() -> None:
    tree = Tree("a/f", "b/")
    device = tree.detailed()
    for directory in ("a", "b"):
        device.add_watch(tree.inode(directory), IN_MOVE)
    device.add_watch(tree.root, IN_MOVE, tree=True)
    tree.rename("a/f", "b/g")
    assert lines(device) == ["MOVED_FROM f", "MOVED_TO a/f -> b/g", "MOVED_TO g"]
    device.add_watch(tree.inode("b"), IN_MOVED_TO)
    tree.rename("b/g", "b/h")
    assert lines(device) == ["MOVED_TO b/g -> b/h", "MOVED_TO h"]


def test_an_excluded_end_of_a_rename_is_not_told() -> None:
    tree = Tree("a")
    device = tree.detailed()
    device.add_watch(tree.root, IN_MOVE, exclusion=Exclusion([b"*.o"]))
    tree.rename("a", "b.o")
    tree.rename("b.o", "c")
    assert lines(device) == ["MOVED_FROM a", "MOVED_TO c"]


def test_a_one_shot_watch_ends_with_the_first_half() -> None:
    tree = Tree("a")
    device = tree.detailed()
    device.add_watch(tree.root, IN_MOVE | IN_ONESHOT)
    tree.rename("a", "b")
    assert lines(device) == ["MOVED_FROM a", "IGNORED"]


def test_a_rename_takes_one_place_and_is_lost_whole() -> None:
    tree = Tree("a", "b")
    device = tree.watching(mask=IN_MOVE, limit=1)
    tree.rename("a", "c")
    tree.rename("b", "d")
    renamed, overflow = taken(device)
    assert (renamed.old_path, renamed.path) == (b"a", b"c")
    assert (overflow.mask, overflow.lost) == (IN_Q_OVERFLOW, 2)


def test_equal_halves_of_renames_do_not_merge() -> None:
    tree = Tree("in/a", "out/")
    device = tree.watching("in", IN_MOVE)
    for new in ("out/a", "out/b", "in/b"):
        tree.rename("in/a", new)
        tree.prepare("in/a")
    assert lines(device) == ["MOVED_FROM a", "MOVED_FROM a", "MOVED_TO a -> b"]


# Who did it.


def who(tree: Tree, device: DetailedDevice) -> list[tuple[int, int, int, bytes | None] | None]:
    return [event.process and event.process[:4] for event in taken(device)]


def test_it_is_the_process_of_a_thread_and_its_command() -> None:
    tree = Tree("f")
    device = tree.watching(mask=IN_CREATE | IN_MODIFY)
    tree.hooks.by(Thread(13, 1000, 100))
    tree.create("a")
    tree.truncate("f")
    tree.hooks.by(Thread(0, 1001, 101))
    tree.create("b")
    tree.hooks.by(None)
    tree.create("c")
    assert who(tree, device) == [
        (10, 1000, 100, b"p10"),
        (10, 1000, 100, b"p10"),
        (0, 1001, 101, None),
        None,
    ]


def test_the_process_that_opens_a_file_is_looked_up_at_the_open() -> None:
    tree = Tree()
    device = tree.watching(mask=IN_CREATE)
    opener = tree.core.details.process(Thread(13))
    tree.core.details.process_of = lambda thread: 0  # it ended
    tree.hooks.by(opener)
    tree.create("a")
    tree.hooks.by(Thread(13))
    tree.create("b")
    assert who(tree, device) == [(10, 1000, 100, b"p10"), (0, 1000, 100, None)]


def test_root_the_daemons_user_and_the_user_see_who_it_was() -> None:
    tree = Tree()
    devices = [tree.detailed(uid) for uid in (0, 1000, 1001)]
    devices.append(tree.table.init_detailed(1002, sees_all=True))
    for device in devices:
        device.add_watch(tree.root, IN_CREATE)
    tree.hooks.by(Thread(13, 1000, 100))
    tree.create("a")
    known = (10, 1000, 100, b"p10")
    assert [who(tree, device) for device in devices] == [[known], [known], [None], [known]]


def test_nobody_ends_a_watch() -> None:
    tree = Tree("d/")
    device = tree.detailed()
    device.add_watch(tree.inode("d"), IN_ALL_EVENTS)
    tree.hooks.by(Thread(13))
    tree.rmdir("d")
    device.add_watch(tree.root, IN_CREATE)
    tree.unmount()
    assert [(names(event.mask)[0], event.process is None) for event in taken(device)] == [
        ("DELETE_SELF", False),
        ("IGNORED", True),
        ("UNMOUNT", True),
        ("IGNORED", True),
    ]


# Merging.


def test_repeated_events_of_one_process_merge_and_keep_the_first_number() -> None:
    tree = Tree("f")
    device = tree.watching(mask=IN_MODIFY)
    for thread in (13, 14, 23, 13):
        tree.hooks.by(Thread(thread))
        tree.truncate("f")
    events = taken(device)
    assert [(e.sequence, e.time, e.process and e.process.pid) for e in events] == [
        (1, 1, 10),
        (3, 3, 20),
        (4, 4, 10),
    ]
    assert device.merged == 1


def test_processes_that_may_not_be_known_cannot_be_told_apart() -> None:
    tree = Tree("f")
    device = tree.watching(mask=IN_MODIFY, uid=1001)
    for thread in (13, 23):
        tree.hooks.by(Thread(thread))
        tree.truncate("f")
    assert len(taken(device)) == 1


def test_directories_below_that_had_one_path_do_not_merge() -> None:
    tree = Tree("a/", "b/")
    device = tree.watching(mask=IN_CREATE)
    tree.create("a/f")
    tree.rename("a", "c")
    tree.rename("b", "a")
    tree.create("a/f")
    assert lines(device) == ["CREATE a/f", "CREATE a/f"]


def test_the_older_semantics_merge_with_the_oldest_in_a_full_queue_too() -> None:
    tree = Tree("f", "g")
    device = tree.detailed(limit=2, policy=LINUX_2_6_18)
    device.add_watch(tree.root, IN_MODIFY)
    for name in ("f", "g", "f", "g", "f"):
        tree.truncate(name)
    assert lines(device) == ["MODIFY f", "MODIFY g", "Q_OVERFLOW"]


# What is lost.


def test_each_gap_has_its_overflow_which_counts_and_says_where() -> None:
    tree = Tree()
    device = tree.watching(mask=IN_CREATE, limit=2)
    for number in range(5):
        tree.create(f"a{number}")
    device.read_events(2 * detailed_size(b"a0", None))
    for number in range(5):
        tree.create(f"b{number}")
    assert [(event.path, event.sequence, event.lost) for event in taken(device)] == [
        (None, 3, 3),
        (b"b0", 6, None),
        (None, 7, 4),
    ]
    assert (device.overflows, device.lost) == (2, 7)
    tree.create("c")
    assert [event.sequence for event in taken(device)] == [11]


def test_an_overflow_counts_what_resting_watches_miss() -> None:
    tree = Tree("d/")
    devices = [tree.watching(mask=IN_CREATE, limit=1) for _ in range(3)]
    for number in range(100):
        tree.create(f"d/{number}")
    assert len(tree.root.watches) == 2  # the statistics', and one for all that rest
    for device in devices:
        assert [event.lost for event in taken(device)] == [None, 99]


def test_lost_ends_of_watches_count() -> None:
    tree = Tree()
    device = tree.detailed(limit=1)
    wd = device.add_watch(tree.root, IN_CREATE)
    for name in "abc":
        tree.create(name)
    device.rm_watch(wd)
    assert [event.lost for event in taken(device)] == [None, 3]


def test_a_queue_of_none_says_what_is_lost() -> None:
    tree = Tree()
    device = tree.watching(mask=IN_CREATE, limit=0)
    for name in "abc":
        tree.create(name)
    assert [(event.sequence, event.lost) for event in taken(device)] == [(1, 3)]


def test_long_paths_without_room_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_PATH_BYTES", 0)
    tree = Tree()
    deep = "/".join(["d" * 250] * 30)
    tree.prepare(f"{deep}/")
    device = tree.watching(mask=IN_CREATE | IN_MOVE, limit=MOST_BYTES)
    for number in range(300):
        tree.create(f"{deep}/{number}")
    *kept, overflow = taken(device)
    assert (len(kept) + (overflow.lost or 0), overflow.mask) == (300, IN_Q_OVERFLOW)
    for name in ("x", "y"):
        tree.rename(f"{deep}/{0 if name == 'x' else 'x'}", f"{deep}/{name}")
        taken(device)
    assert device._paths._used == 0


# Reading.


def test_a_read_gives_whole_events_that_fit() -> None:
    tree = Tree("a")
    device = tree.watching(mask=IN_CREATE | IN_MOVE)
    with pytest.raises(QueueEmpty):
        device.read_events(EVERYTHING)
    tree.create("bc")
    tree.rename("a", "d")
    sizes = [detailed_size(b"bc", None), detailed_size(b"d", b"a")]
    assert device.fionread() == sum(sizes)
    with pytest.raises(BufferTooSmall, match=str(sizes[0])) as refusal:
        device.read_events(sizes[0] - 1)
    assert refusal.value.errno == errno.EINVAL
    assert len(device.read_events(sum(sizes) - 1)) == 1
    assert (device.fionread(), device.poll()) == (sizes[1], True)
    assert len(device.read_events(sizes[1])) == 1
    assert (device.fionread(), device.poll()) == (0, False)
    device.close()
    with pytest.raises(DeviceClosed):
        device.read_events(EVERYTHING)


def test_the_older_semantics_give_nothing_where_nothing_fits() -> None:
    tree = Tree()
    device = tree.detailed(policy=LINUX_2_6_18)
    device.add_watch(tree.root, IN_CREATE)
    tree.create("a")
    assert device.read_events(16) == []


def test_who_waits_is_told() -> None:
    tree = Tree()
    device = tree.watching(mask=IN_CREATE, limit=1)
    told: list[None] = []
    device.on_queued = lambda: told.append(None)
    for name in "abc":
        tree.create(name)
    assert len(told) == 2  # the event, and the overflow


def test_it_gets_the_events_of_a_tree_that_its_user_may_see() -> None:
    tree = Tree("open/", "closed/")

    class Some:
        def may_refuse(self, who: Credentials) -> bool:
            return bool(who.uid)

        def may_read(self, directory: object, who: Credentials) -> bool:
            return directory is not tree.inode("closed")

        def may_search(self, directory: object, who: Credentials) -> bool:
            return True

    tree.core.trees.permissions = Some()
    device = tree.table.init_detailed(1000, who=Credentials(1, 1000, 1000))
    device.add_watch(tree.root, IN_ALL_EVENTS, tree=True)
    tree.create("open/a")
    tree.create("closed/b")
    tree.rename("open/a", "closed/a")
    tree.rename("closed/b", "open/b")
    assert lines(device) == ["CREATE open/a", "MOVED_FROM open/a", "MOVED_TO open/b"]


def test_an_ignored_watch_has_the_flag_alone() -> None:
    tree = Tree()
    device = tree.detailed()
    wd = device.add_watch(tree.root, IN_CREATE)
    device.rm_watch(wd)
    (event,) = taken(device)
    assert (event.wd, event.mask, event.path, event.is_dir) == (wd, IN_IGNORED, None, True)


def paths_below(inode: Inode, above: str = "") -> Iterator[str]:
    for name, dentry in (inode.children or {}).items():
        yield above + name.decode()
        yield from paths_below(dentry.inode, f"{above}{name.decode()}/")


@pytest.mark.parametrize("seed", range(20))
def test_it_has_the_events_of_records_but_whole_renames(seed: int) -> None:
    random = Random(seed)
    places = [f"{top}{sub}" for top in ("in/", "out/") for sub in ("", "a/", "b/", "a/c/")]
    tree = Tree(*places)
    # There no records of renames merge either, as they do in linux-6, whatever their cookies are.
    plain, device = tree.device(semantics="linux-2.6.18"), tree.detailed(policy=LINUX_2_6_18)
    plain.watch("in", tree=True)
    device.add_watch(tree.inode("in"), IN_ALL_EVENTS, tree=True)
    calls = (tree.create, tree.unlink, tree.mkdir, tree.rmdir, tree.chmod, tree.write)
    for _ in range(400):
        known = [path for path in paths_below(tree.root) if "/" in path]
        one = random.choice(known or places)
        other = random.choice(places) + random.choice("abcd")
        with contextlib.suppress(OSError):
            match random.randrange(3):
                case 0:
                    tree.rename(one, other)
                case 1:
                    tree.exchange(one, other)
                case _:
                    random.choice(calls)(random.choice([one, other]))
    said: list[tuple[int, bytes | None, int]] = []
    renames = 0
    for event in taken(device):
        if event.old_path is not None:
            renames += 1
            moved_from = event.mask & ~IN_MOVED_TO | IN_MOVED_FROM
            said.append((moved_from, event.old_path, event.cookie))
        said.append((event.mask, event.path, event.cookie))
    assert said == [(record.mask, record.name, record.cookie) for record in plain.take()]
    assert renames
