# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's way to its own mount: there wherever the mount is, and never anywhere else."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fusenotify
from fusenotify import Mounted, mountinfo
from fusenotify.fs.attribute_requests import SOCKET_XATTR
from fusenotify.fs.own_root import OwnRoot

pytestmark = pytest.mark.mount
for_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts other filesystems")


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """The directory above the mount point."""
    path = tmp_path / "above"
    (path / "mnt").mkdir(parents=True)
    return path


@pytest.fixture
def mounted(tmp_path: Path, above: Path) -> Iterator[Mounted]:
    (tmp_path / "source").mkdir()
    with fusenotify.mounted(tmp_path / "source", above / "mnt") as mount:
        yield mount


@pytest.fixture
def root(mounted: Mounted) -> OwnRoot:
    mount = mountinfo.mount_of(os.fsencode(mounted.mountpoint))
    assert mount is not None
    return OwnRoot(mount.id)


@contextmanager
def covered(path: Path) -> Iterator[None]:
    """Return a block in which a filesystem is mounted on a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def socket_by(root: OwnRoot) -> str:
    with root.opened() as fd:
        return os.fsdecode(os.getxattr(f"/proc/self/fd/{fd}", SOCKET_XATTR))


def test_it_is_found_where_it_was_mounted(mounted: Mounted, root: OwnRoot) -> None:
    assert [socket_by(root), socket_by(root)] == [mounted.socket] * 2


def test_it_is_found_when_a_directory_above_was_renamed(
    mounted: Mounted, root: OwnRoot, above: Path
) -> None:
    assert socket_by(root) == mounted.socket
    elsewhere = above.rename(above.with_name("elsewhere"))
    try:
        (above / "mnt").mkdir(parents=True)
        assert socket_by(root) == mounted.socket
    finally:
        (above / "mnt").rmdir()
        above.rmdir()
        elsewhere.rename(above)


@for_root
@pytest.mark.parametrize("where", ["mnt", "."])
def test_a_mount_that_covers_it_is_not_taken_for_it(root: OwnRoot, above: Path, where: str) -> None:
    nowhere = pytest.raises((FileNotFoundError, BlockingIOError))
    with covered(above / where), nowhere, root.opened():
        pass


@for_root
def test_a_server_above_it_that_does_not_answer_is_not_waited_for(
    root: OwnRoot, above: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with fusenotify.mounted(tmp_path / "other", above, options=["nonempty"]) as other:
        os.kill(other.pid, signal.SIGSTOP)
        try:
            with pytest.raises(BlockingIOError), root.opened():
                pass
        finally:
            os.kill(other.pid, signal.SIGCONT)


def test_a_mount_that_was_taken_away_is_not_found(mounted: Mounted, root: OwnRoot) -> None:
    subprocess.run(["fusermount3", "-u", mounted.mountpoint], check=True)
    with pytest.raises(FileNotFoundError, match="was unmounted"), root.opened():
        pass
