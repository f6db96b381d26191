# SPDX-License-Identifier: GPL-2.0-or-later
"""What a watch does not want to be told of takes no place in its queue."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import pytest

from fusenotify.bits import IN_CREATE, IN_MASK_ADD
from fusenotify.testing import EngineTree, assert_events


@dataclass
class Thread:
    """Who acts."""

    pid: int
    uid: int = 1000
    gid: int = 1000


def test_excluded_names_are_not_told() -> None:
    engine = EngineTree()
    device = engine.device()
    device.watch(".", "CREATE|MOVE", exclude=["*.o"])
    for name in ("a", "a.o"):
        engine.create(name)
    engine.rename("a", "b.o")
    engine.rename("a.o", "c")
    assert_events(device, ["CREATE a", "MOVED_FROM a", "MOVED_TO c"])


def test_an_excluded_directory_takes_all_below_it_along() -> None:
    engine = EngineTree()
    engine.prepare("build/deep/", "src/")
    device = engine.device()
    device.watch(".", "CREATE|ATTRIB", tree=True, exclude=["/build/"])
    for path in ("build/f", "build/deep/f", "src/f", "src/build"):
        engine.create(path)
    engine.chmod("build/deep")
    engine.chmod("src")
    assert_events(
        device,
        ["CREATE src/f", "CREATE src/build", "ATTRIB|ISDIR src", "ATTRIB|ISDIR src/"],
    )


def test_the_watched_directory_itself_is_always_told() -> None:
    engine = EngineTree()
    engine.prepare("a/")
    device = engine.device()
    device.watch("a", "ATTRIB", tree=True, exclude=["*"])
    engine.chmod("a")
    assert_events(device, ["ATTRIB|ISDIR"])


@pytest.mark.parametrize("tree", [False, True])
def test_excluded_events_use_up_no_one_shot_and_no_place(tree: bool) -> None:
    engine = EngineTree()
    device = engine.device(max_queued_events=2)
    device.watch(".", "CREATE|ONESHOT", tree=tree, exclude=["x*"])
    for number in range(5):
        engine.create(f"x{number}")
    engine.create("a")
    assert_events(device, ["CREATE a", "IGNORED"])


def test_adding_again_replaces_the_patterns_and_mask_add_keeps_them() -> None:
    engine = EngineTree()
    device = engine.device()
    device.watch(".", "CREATE", exclude=["a"])
    device.watch(".", IN_CREATE | IN_MASK_ADD)
    engine.create("a")
    device.watch(".", IN_CREATE | IN_MASK_ADD, exclude=["b"])
    engine.create("b")
    device.watch(".", "CREATE")
    engine.create("c")
    engine.unlink("a")
    engine.create("a")
    assert_events(device, ["CREATE c", "CREATE a"])


def test_a_full_queue_counts_as_lost_only_what_was_wanted() -> None:
    engine = EngineTree()
    device = engine.device(max_queued_events=1)
    device.watch(".", "CREATE", exclude=["x*"])
    for name in ("a", "b", "x1", "c", "x2"):
        engine.create(name)
    assert device.raw.lost == 2
    assert_events(device, ["CREATE a", "Q_OVERFLOW"])


def test_an_own_process_is_not_told_of_by_any_of_its_threads() -> None:
    engine = EngineTree()
    engine.core.details.process_of = lambda thread: thread // 10 * 10
    device = engine.device()
    device.raw.add_watch(engine.inode("."), IN_CREATE, ignored=10)
    for actor, name in ((Thread(10), "a"), (Thread(13), "b"), (Thread(20), "c"), (Thread(0), "d")):
        engine.hooks.by(actor)
        engine.create(name)
    engine.hooks.by(None)
    engine.create("e")
    assert [record.name for record in device.take()] == [b"c", b"d", b"e"]


def test_a_pattern_that_does_not_compile_watches_nothing() -> None:
    engine = EngineTree()
    device = engine.device()
    with pytest.raises(OSError, match="the pattern '!'") as refusal:
        device.watch(".", "CREATE", exclude=["!"])
    assert refusal.value.errno == errno.EINVAL
    assert not list(device.raw.watches())


def test_events_that_there_is_no_time_to_check_are_an_overflow() -> None:
    engine = EngineTree()
    device = engine.device()
    device.watch(".", "CREATE", exclude=["a" * 4096])
    name = "b" * 1100
    engine.create("first")
    engine.create(name)
    engine.create(f"{name}c")
    engine.create("last")
    assert_events(device, ["CREATE first", "Q_OVERFLOW", "CREATE last"])
    engine.create(name + "d")
    assert_events(device, ["Q_OVERFLOW"])
