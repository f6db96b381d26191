# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of known inodes: who keeps one, and when its descriptor is closed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.engine.core import Core
from fusenotify.fs.descriptors import KEPT
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.submounts import Submounts


@pytest.fixture
def inodes(tmp_path: Path) -> Iterator[Inodes]:
    table = Inodes(Submounts(os.open(tmp_path, os.O_PATH)), Core())
    yield table
    table.close()


def looked_up(inodes: Inodes, parent: Inode, name: bytes) -> Inode:
    """What LOOKUP does: the kernel now has one lookup more."""
    inode, _ = inodes.lookup(parent, name)
    inode.lookups += 1
    return inode


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def test_hard_links_are_one_inode(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "b")
    assert inodes.lookup(inodes.root, b"a")[0] is inodes.lookup(inodes.root, b"b")[0]


def test_a_forgotten_inode_lets_go_of_its_descriptor(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "a").touch()
    inode = looked_up(inodes, inodes.root, b"a")
    looked_up(inodes, inodes.root, b"a")
    inodes.forget(inode.number, 1)
    assert is_open(inode.fd)
    inodes.forget(inode.number, 1)
    assert not is_open(inode.fd)
    assert len(inodes) == 1


def test_a_forgotten_inode_is_freed_at_once(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").touch()
    directory = looked_up(inodes, inodes.root, b"s")
    file = looked_up(inodes, directory, b"a")
    numbers = [file.number, directory.number]
    gc.disable()
    try:
        before = sum(isinstance(each, Inode) for each in gc.get_objects())
        del file, directory
        for number in numbers:
            inodes.forget(number, 1)
        for _ in range(KEPT):  # so many that were asked for last are remembered
            assert inodes.root.fd >= 0
        assert sum(isinstance(each, Inode) for each in gc.get_objects()) == before - 2
    finally:
        gc.enable()


def test_a_pinned_inode_outlives_its_lookups(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "a").touch()
    inode = looked_up(inodes, inodes.root, b"a")
    inode.pin()
    inodes.forget(inode.number, 1)
    assert looked_up(inodes, inodes.root, b"a") is inode
    inodes.forget(inode.number, 1)
    inode.unpin()
    assert not is_open(inode.fd)


def test_a_known_child_keeps_its_directory(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").touch()
    directory = looked_up(inodes, inodes.root, b"s")
    file = looked_up(inodes, directory, b"a")
    inodes.forget(directory.number, 1)
    assert is_open(directory.fd)
    inodes.forget(file.number, 1)
    assert not is_open(directory.fd)
    assert len(inodes) == 1


def test_an_inode_is_reached_wherever_it_is_renamed_to(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_text("content")
    directory = looked_up(inodes, inodes.root, b"s")
    file = looked_up(inodes, directory, b"a")
    (tmp_path / "s").rename(tmp_path / "elsewhere")
    assert Path(file.path).read_text() == "content"
    assert inodes.lookup(directory, b"a")[0] is file


def test_numbers_are_the_disks(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "a").touch()
    assert looked_up(inodes, inodes.root, b"a").number == (tmp_path / "a").stat().st_ino


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a second filesystem")
def test_two_filesystems_do_not_clash() -> None:
    table = Inodes(Submounts(os.open("/", os.O_PATH)), Core())
    proc, _ = table.lookup(table.root, b"proc")
    assert proc.number != os.stat("/proc").st_ino
    assert table.lookup(table.root, b"proc")[0] is proc
    table.close()
