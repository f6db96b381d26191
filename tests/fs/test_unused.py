# SPDX-License-Identifier: GPL-2.0-or-later
"""What nobody holds goes in turns: no FORGET keeps others waiting, none ends the daemon."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fusenotify import Mounted
from fusenotify.engine.core import Core
from fusenotify.fs.inodes import Inodes
from fusenotify.fs.requests import Requests, unanswered
from fusenotify.fs.submounts import Submounts
from fusenotify.fs.unused import TURN, Unused
from fusenotify.masks import IN_CREATE

_MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 2, 4, 32


def dig(top: Path, depth: int) -> None:
    """Make top/d/d/..., which no path can name."""
    here = os.open(top, os.O_PATH)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def fill_in(top: Path) -> None:
    """Remove what dig() made: rm(1) takes time that grows with the square of the depth."""
    while (top / "d").is_dir():
        if (top / "d" / "d").is_dir():
            (top / "d" / "d").rename(top / "e")
            (top / "d").rmdir()
            (top / "e").rename(top / "d")
        else:
            (top / "d").rmdir()


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """A directory that is removed however deep it is: pytest could not."""
    top = tmp_path / "top"
    top.mkdir()
    yield top
    fill_in(top)


def forget_names(mountpoint: str) -> None:
    """Make the kernel forget what nobody uses, as it does when memory is short: a remount does."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_REMOUNT | _MS_NOSUID | _MS_NODEV
    assert not libc.mount(None, os.fsencode(mountpoint), None, flags, None), ctypes.get_errno()


async def turns_until_only_the_root_is_known(inodes: Inodes) -> int:
    turns = 0
    while len(inodes) > 1:
        turns += 1
        await trio.lowlevel.checkpoint()
    return turns


@pytest.mark.parametrize("depth", [1_000, 4_000])
def test_a_chain_of_directories_goes_in_turns(top: Path, depth: int) -> None:
    async def forget_the_last() -> int:
        inodes.forget(deepest.number, 1)
        assert len(inodes) == 1 + depth - TURN
        return await turns_until_only_the_root_is_known(inodes)

    dig(top, depth)
    inodes = Inodes(Submounts(os.open(top, os.O_PATH)), Core())
    before = len(os.listdir("/proc/self/fd"))
    deepest = inodes.root
    for _ in range(depth):
        above, (deepest, _status) = deepest, inodes.lookup(deepest, b"d")
        deepest.lookups = 1
        if above is not inodes.root:
            inodes.forget(above.number, 1)
    assert trio.run(forget_the_last) >= depth // TURN - 1
    assert len(os.listdir("/proc/self/fd")) == before
    inodes.close()


def test_a_file_with_many_names_goes_in_turns(top: Path) -> None:
    async def forget_it() -> int:
        inodes.forget(file.number, 1)
        assert inodes.root.children is not None
        assert len(inodes.root.children) == names - TURN
        return await turns_until_only_the_root_is_known(inodes)

    names = 5_000
    (top / "0").touch()
    for number in range(1, names):
        os.link(top / "0", top / str(number))
    inodes = Inodes(Submounts(os.open(top, os.O_PATH)), Core())
    for number in range(names):
        file, _ = inodes.lookup(inodes.root, b"%d" % number)
    file.lookups = 1
    assert trio.run(forget_it) >= names // TURN - 1
    assert inodes.root.children == {}
    inodes.close()


def test_an_object_found_again_in_between_stays(top: Path) -> None:
    async def forget_and_find_it() -> None:
        inodes.forget(file.number, 1)
        inodes.lookup(inodes.root, b"0")
        file.lookups = 1
        while inodes.unused.waiting:
            await trio.lowlevel.checkpoint()

    (top / "0").write_text("content")
    for number in range(1, 2 * TURN):
        os.link(top / "0", top / str(number))
    inodes = Inodes(Submounts(os.open(top, os.O_PATH)), Core())
    for number in range(2 * TURN):
        file, _ = inodes.lookup(inodes.root, b"%d" % number)
    file.lookups = 1
    trio.run(forget_and_find_it)
    assert inodes[file.number] is file
    assert next(dentry.name for dentry in file.aliases()) == b"0"
    assert Path(file.path).read_text() == "content"
    inodes.close()


def test_renamed_behind_the_mount_a_file_is_not_known_by_all_the_names_it_had(top: Path) -> None:
    inodes = Inodes(Submounts(os.open(top, os.O_PATH)), Core())
    (top / "0").touch()
    file, _ = inodes.lookup(inodes.root, b"0")
    file.lookups = 1
    for number in range(10):
        (top / str(number)).rename(top / str(number + 1))
        inodes.lookup(inodes.root, b"%d" % (number + 1))
    assert [dentry.name for dentry in file.aliases()] == [b"10"]
    assert inodes.root.children is not None
    assert [*inodes.root.children] == [b"10"]
    inodes.close()


def test_directories_renamed_behind_the_mount_leave_no_unused_ones(top: Path) -> None:
    """The directory that one was known in goes where it was known for that alone."""
    inodes = Inodes(Submounts(os.open(top, os.O_PATH)), Core())
    (top / "a" / "d").mkdir(parents=True)
    above, _ = inodes.lookup(inodes.root, b"a")
    moved, _ = inodes.lookup(above, b"d")
    moved.lookups = 1
    (top / "a" / "d").rename(top / "d")
    inodes.lookup(inodes.root, b"d")
    inodes.unused.turn()
    assert len(inodes) == 2
    inodes.close()


def test_directories_that_changed_places_behind_the_mount_are_let_go_of(top: Path) -> None:
    inodes = Inodes(Submounts(os.open(top, os.O_PATH)), Core())
    (top / "a" / "b").mkdir(parents=True)
    outer, _ = inodes.lookup(inodes.root, b"a")
    inner, _ = inodes.lookup(outer, b"b")
    (top / "a" / "b").rename(top / "b")
    (top / "a").rename(top / "b" / "a")
    assert inodes.lookup(inner, b"a")[0] is outer
    for inode in (outer, inner):
        inode.lookups = 1
        inodes.forget(inode.number, 1)
    assert len(inodes) == 1
    inodes.close()


def test_an_error_in_letting_go_keeps_the_others_from_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone: list[int] = []

    def let_go(number: int) -> bool:
        if number == 1:
            raise RecursionError
        gone.append(number)
        return False

    unused = Unused(let_go)
    for number in range(3):
        unused.add(number)
    unused.turn()
    assert gone == [0, 2]
    assert "cannot be removed" in caplog.text


def test_a_request_without_an_answer_fails_for_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Requests):
        @unanswered
        async def forget(self, inode_list: object) -> None:
            raise RecursionError("too deep")

    with caplog.at_level(logging.ERROR):
        trio.run(Failing.forget, Failing.__new__(Failing), [])
    assert "too deep" in caplog.text


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may remount")
def test_a_watch_deep_down_is_the_last_to_hold_a_tree(mounted: Mounted) -> None:
    depth = 2_000
    dig(Path(mounted.mountpoint), depth)
    before = len(os.listdir(f"/proc/{mounted.pid}/fd"))
    with mounted.client() as client:
        device = client.init(nonblock=True)
        wd = device.add_watch("/d" * depth, IN_CREATE)
        forget_names(mounted.mountpoint)
        device.rm_watch(wd)
        while len(os.listdir(f"/proc/{mounted.pid}/fd")) > before - depth + 10:
            client.sync()
    fill_in(Path(mounted.source))
