# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify wait`` watches: several mounts, and of nested directories the outermost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted
from fusenotify.cli.watching import Watching, outermost
from fusenotify.client import Client
from fusenotify.masks import IN_CREATE
from tests.cli.command import until


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
def test_what_is_kept(
    top: Path, named: list[str], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(top)
    assert outermost([os.fsencode(name) for name in named]) == [os.fsencode(name) for name in kept]


def test_another_filesystem_below_is_another_tree() -> None:
    assert outermost([b"/", b"/proc"]) == [b"/", b"/proc"]


def queued(client: Client) -> int:
    """Return how many events wait in the queue of this mount's other client."""
    (waiting,) = [device.queued for each in client.status().clients for device in each.devices]
    return waiting


@pytest.mark.mount
def test_of_several_mounts_what_nobody_takes_stays_in_their_queues(
    mounted: Mounted, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    with (
        package.mounted(tmp_path / "second") as other,
        mounted.client() as client,
        Watching(detailed=False) as watching,
    ):
        for mount in (mounted, other):
            watching.add(os.fsencode(mount.mountpoint), IN_CREATE, tree=False)

        def make(name: str) -> None:
            os.mkdir(f"{mounted.mountpoint}/{name}")
            client.sync()

        make("first")
        ((watched, event),) = watching.read(20.0)
        assert (watched, event.name) == (os.fsencode(mounted.mountpoint), b"first")
        for name in ("handed over", "in the thread's hands"):
            make(name)
            until(lambda: not queued(client), "it is read")
        for number in range(10):
            make(str(number))
        assert queued(client) == 10
        names: list[bytes | None] = []
        while len(names) < 12:
            names += [event.name for _, event in watching.read(20.0)]
        assert names[:2] == [b"handed over", b"in the thread's hands"]
        assert names[2:] == [b"%d" % number for number in range(10)]
