# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify wait`` watches: several mounts, and of nested directories the outermost."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted
from fusenotify.bits import names
from fusenotify.cli.watching import Told, Watching, named, named_trees
from fusenotify.client import Client
from fusenotify.client.events import DetailedInotifyEvent
from fusenotify.masks import IN_CREATE, IN_MOVE


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for directory in ("a/b/c", "ab", "z"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "a/file").touch()
    (tmp_path / "link").symlink_to("a/b")
    return tmp_path


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        pytest.param(["a", "a/b"], ["a"], id="the outer one first"),
        pytest.param(["a/b/c", "z", "a"], ["z", "a"], id="the inner one first"),
        pytest.param(["a", "ab"], ["a", "ab"], id="a name that begins as another"),
        pytest.param(["a", "a/", "./a", "a"], ["a"], id="one several times"),
        pytest.param(["link", "a"], ["a"], id="through a link"),
        pytest.param(["a/file", "a"], ["a/file", "a"], id="a file has a watch of its own"),
        pytest.param(["a", "a/none", "none"], ["a", "a/none", "none"], id="what is not there"),
    ],
)
def test_which_events_are_kept(
    top: Path, named: list[str], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(top)
    trees = named_trees([os.fsencode(name) for name in named])
    assert [tree.given for tree in trees] == [os.fsencode(name) for name in kept]


def test_another_filesystem_below_is_another_tree() -> None:
    assert [tree.given for tree in named_trees([b"/", b"/proc"])] == [b"/", b"/proc"]


@pytest.mark.parametrize(
    ("named", "excluded", "kept"),
    [
        pytest.param(["a", "a/b"], ["a/b"], ["a", "a/b"], id="named, too, it is watched"),
        pytest.param(["./a/b", "a"], ["a/b"], ["./a/b", "a"], id="in another spelling"),
        pytest.param(["a", "a/b/c"], ["a/b/"], ["a", "a/b/c"], id="what is below it"),
        pytest.param(["a/b", "a/b/c", "a"], ["a/b"], ["a/b", "a"], id="both below it"),
        pytest.param(["a", "a/b"], ["a"], ["a"], id="the outer one"),
    ],
)
def test_which_events_are_kept_besides_excluded_ones(
    top: Path,
    named: list[str],
    excluded: list[str],
    kept: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(top)
    trees = named_trees([name.encode() for name in named], [name.encode() for name in excluded])
    assert [tree.given for tree in trees] == [name.encode() for name in kept]


def queued(client: Client) -> int:
    """Return how many events wait in the queue of this mount's other client."""
    (waiting,) = [device.queued for each in client.status().clients for device in each.devices]
    return waiting


@pytest.mark.mount
def test_events_of_several_mounts_that_nobody_takes_stay_queued(
    mounted: Mounted, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    with (
        package.mounted(tmp_path / "second") as other,
        mounted.client() as client,
        Watching(detailed=False) as watching,
    ):
        for mount in (mounted, other):
            watching.add(named(os.fsencode(mount.mountpoint)), IN_CREATE)

        def make(name: str) -> None:
            os.mkdir(f"{mounted.mountpoint}/{name}")
            client.sync()

        make("first")
        (first,) = watching.read(20.0) or []
        assert first.path == os.fsencode(f"{mounted.mountpoint}/first")
        for number in range(10):
            make(str(number))
        assert queued(client) == 10
        names = [told.name for told in watching.read(20.0) or []]
        assert names == [b"%d" % number for number in range(10)]


@pytest.mark.mount
def test_a_directory_below_is_shown_as_it_was_named_first(mounted: Mounted) -> None:
    root = os.fsencode(mounted.mountpoint)
    os.makedirs(root + b"/a/b/c")
    with mounted.client() as client, Watching(detailed=True) as watching:
        for tree in named_trees([root + b"/a//b", root + b"/./a", root]):
            watching.add(tree, IN_MOVE)
        made = [root + b"/a/b/c/x", root + b"/a/b/y", root + b"/z", root + b"/a/x"]
        os.mkdir(made[0])
        for old, new in itertools.pairwise(made):
            os.rename(old, new)
        client.sync()
        told: list[Told] = []
        while len(told) < 3:
            told += watching.read(20.0) or []
    assert [(each.watched, each.directory, each.name) for each in told] == [
        (root + b"/a//b/", root + b"/a//b/", b"y"),
        (root + b"/", root + b"/", b"z"),
        (root + b"/./a/", root + b"/./a/", b"x"),
    ]
    events = [each.event for each in told if isinstance(each.event, DetailedInotifyEvent)]
    assert [(event.path, event.old_path) for event in events] == [
        (root + b"/a//b/y", root + b"/a//b/c/x"),
        (root + b"/z", root + b"/a//b/y"),
        (root + b"/./a/x", root + b"/z"),
    ]


@pytest.mark.mount
def test_the_last_that_happened_is_told(mounted: Mounted) -> None:
    root = os.fsencode(mounted.mountpoint)
    os.mkdir(root + b"/a")
    with Watching(detailed=False, interruptible=True) as watching:
        for path in (root, root + b"/a"):
            watching.add(named(path), IN_CREATE)
        watching.interrupt()
        assert watching.read(None) is None
        os.rmdir(root + b"/a")
        os.mkdir(root + b"/b")
        told = watching.last()
    found = [(each.path, names(each.event.mask)) for each in told]
    assert found == [(root + b"/a/", ["IGNORED"]), (root + b"/b", ["CREATE", "ISDIR"])]
