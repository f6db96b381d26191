# SPDX-License-Identifier: GPL-2.0-or-later
"""What was done lately: each operation once, the latest of them, and nobody hears of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.credentials import Process
from fusenotify.engine.activity import Activity, ActivityHooks
from fusenotify.events import detailed_size
from fusenotify.testing import EngineTree, assert_events
from fusenotify.testing.expectations import spell

ROOM = 1 << 20


def tree_with(activity: Activity) -> EngineTree:
    """Return a tree whose clock counts from 1, and which tells activity."""
    tree = EngineTree()
    ticks = iter(range(1, 1_000_000))
    tree.core.details.clock = lambda: next(ticks)
    tree.hooks = ActivityHooks(tree.core, activity)
    return tree


def lines(activity: Activity, since: int = 0, size: int = ROOM) -> list[str]:
    return [
        f"lost {event.lost}"
        if event.mask & IN_Q_OVERFLOW
        else spell(event.mask, event.path, old_name=event.old_path)
        for event in activity.since(since, size)
    ]


def reads(tree: EngineTree) -> None:
    with tree.open("d/a") as file:
        file.read()


def loses_its_name(tree: EngineTree) -> None:
    with tree.open("d/a"):
        tree.unlink("d/a")


def moves_while_open(tree: EngineTree) -> None:
    with tree.open("d/a"):
        tree.rename("d", "e")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda tree: tree.create("d/b"), ["CREATE d/b"]),
        (lambda tree: tree.mkdir("e"), ["CREATE|ISDIR e"]),
        (lambda tree: tree.link("d/a", "b"), ["CREATE b"]),
        (lambda tree: tree.unlink("d/a"), ["DELETE d/a"]),
        (lambda tree: tree.rmdir("empty"), ["DELETE|ISDIR empty"]),
        (lambda tree: tree.rename("d/a", "b"), ["MOVED_TO d/a -> b"]),
        (lambda tree: tree.rename("d", "e"), ["MOVED_TO|ISDIR d -> e"]),
        (
            lambda tree: tree.exchange("d", "empty"),
            ["MOVED_TO|ISDIR d -> empty", "MOVED_TO|ISDIR empty -> d"],
        ),
        (lambda tree: tree.write("d/a"), ["OPEN d/a", "MODIFY d/a", "CLOSE_WRITE d/a"]),
        (reads, ["OPEN d/a", "ACCESS d/a", "CLOSE_NOWRITE d/a"]),
        (lambda tree: tree.open("d/a", truncate=True), ["OPEN d/a", "MODIFY d/a"]),
        (lambda tree: tree.truncate("d/a"), ["MODIFY d/a"]),
        (lambda tree: tree.chmod("d"), ["ATTRIB|ISDIR d"]),
        (lambda tree: tree.utime("d/a", mtime=False), ["ACCESS d/a"]),
        (lambda tree: tree.setxattr("d/a"), ["ATTRIB d/a"]),
        (lambda tree: tree.chmod("/"), ["ATTRIB|ISDIR ."]),
        (loses_its_name, ["OPEN d/a", "DELETE d/a", "CLOSE_NOWRITE d/a"]),
        (moves_while_open, ["OPEN d/a", "MOVED_TO|ISDIR d -> e", "CLOSE_NOWRITE e/a"]),
    ],
)
def test_an_operation_is_one_line(act: Callable[[EngineTree], object], expected: list[str]) -> None:
    activity = Activity(10)
    tree = tree_with(activity)
    tree.prepare("d/a", "empty/")
    act(tree)
    assert lines(activity) == expected


def test_failed_calls_are_not_kept() -> None:
    activity = Activity(10)
    tree = tree_with(activity)
    with pytest.raises(FileNotFoundError):
        tree.unlink("a")
    assert lines(activity) == []


def test_equal_ones_that_follow_each_other_are_one_unless_others_do_them() -> None:
    activity = Activity(10)
    tree = tree_with(activity)
    tree.prepare("a")
    for process in (Process(1, 0, 0), Process(1, 0, 0), Process(2, 0, 0)):
        tree.hooks.by(process)
        tree.truncate("a")
    assert [(event.process or process).pid for event in activity.since(0, ROOM)] == [1, 2]


def test_only_the_latest_are_kept_and_the_others_counted() -> None:
    activity = Activity(2)
    tree = tree_with(activity)
    for name in "abcde":
        tree.create(name)
    assert lines(activity) == ["lost 3", "CREATE d", "CREATE e"]
    assert [event.sequence for event in activity.since(0, ROOM)] == [3, 4, 5]
    assert lines(activity, since=5) == ["CREATE e"]
    assert lines(activity, since=6) == []


def test_of_those_that_do_not_fit_the_latest_are_told() -> None:
    activity = Activity(10)
    tree = tree_with(activity)
    for name in "abc":
        tree.create(name)
    assert lines(activity, size=2 * detailed_size(b"a", None)) == ["lost 1", "CREATE b", "CREATE c"]


def test_a_path_that_is_long_has_its_end() -> None:
    activity = Activity(10)
    tree = tree_with(activity)
    tree.prepare("/".join(["d"] * 100) + "/")
    tree.create("/".join(["d"] * 100) + "/a")
    (event,) = activity.since(0, ROOM)
    assert event.path is not None
    assert event.path.startswith(b".../d/")
    assert event.path.endswith(b"d/d/a")
    assert len(event.path) < 200


def test_the_process_that_opened_a_file_is_known_when_it_is_closed() -> None:
    activity = Activity(10)
    tree = tree_with(activity)
    tree.prepare("a")
    opener = Process(7, 1000, 1000, b"cat")
    tree.hooks.by(opener)
    file = tree.open("a")
    tree.hooks.by(None)
    file.close()
    assert [event.process for event in activity.since(0, ROOM)] == [opener, opener]


def test_devices_get_and_count_the_same_events_as_without_it() -> None:
    heard = []
    for activity in (None, Activity(10)):
        tree = EngineTree() if activity is None else tree_with(activity)
        device = tree.device(detailed=True)
        device.watch(".", "CREATE")
        tree.prepare("d/")
        tree.create("d/a")  # nobody hears it
        tree.create("b")
        tree.create("c")
        heard.append([event.sequence for event in device.raw.read_events(ROOM)])
        statistics = tree.table.statistics
        heard.append([*statistics.events().items(), *map(str, statistics.directories(9))])
    assert heard[:2] == heard[2:]
    assert_events(device, [])
