# SPDX-License-Identifier: GPL-2.0-or-later
"""A client's path, resolved for its user and inside the mount only."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fusenotify.credentials import Credentials
from fusenotify.engine.core import Core
from fusenotify.fs.inodes import Inodes
from fusenotify.fs.paths import resolved
from fusenotify.fs.submounts import Submounts

ROOT = Credentials(1, 0, 0)
ANOTHER = Credentials(1, 1234, 1234)
MOUNTPOINT = b"/mnt/point"


class Resolver:
    """A tree and what resolves paths in it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "s").mkdir()
        (top / "s" / "f").touch()
        self.inodes = Inodes(Submounts(os.open(top, os.O_PATH)), Core())

    def __call__(
        self,
        path: bytes,
        who: Credentials = ROOT,
        *,
        follow: bool | None = True,
        directory: bool = False,
    ) -> int:
        """Return the inode number that a path leads to."""
        with resolved(
            self.inodes, MOUNTPOINT, path, who, follow=follow, directory=directory
        ) as inode:
            return inode.ino


@pytest.fixture
def resolve(tmp_path: Path) -> Resolver:
    return Resolver(tmp_path)


def number(path: Path) -> int:
    return path.lstat().st_ino


@pytest.mark.parametrize("path", [b"s/f", b"/s/f", b"s//./f", b"s/../s/f", b"//s/f"])
def test_a_path_is_relative_to_the_root(resolve: Resolver, path: bytes) -> None:
    assert resolve(path) == number(resolve.top / "s" / "f")


def test_a_slash_is_the_root(resolve: Resolver) -> None:
    assert resolve(b"/") == number(resolve.top)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        pytest.param("s/f", "s/f", id="relative"),
        pytest.param("/mnt/point/s/f", "s/f", id="absolute, by the mount's path"),
        pytest.param("/mnt/point", ".", id="the mount itself"),
    ],
)
def test_links_are_followed_inside_the_mount(resolve: Resolver, target: str, found: str) -> None:
    (resolve.top / "l").symlink_to(target)
    assert resolve(b"l") == number(resolve.top / found)
    assert resolve(b"l", follow=False) == number(resolve.top / "l")


@pytest.mark.parametrize("target", ["/etc", "..", "s/../../x", "/mnt/pointless"])
def test_a_link_that_leaves_the_mount_is_exdev(resolve: Resolver, target: str) -> None:
    (resolve.top / "l").symlink_to(target)
    with pytest.raises(OSError, match="leaves the mount") as refusal:
        resolve(b"l")
    assert refusal.value.errno == errno.EXDEV


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param(b"", errno.ENOENT, id="an empty path"),
        pytest.param(b"missing", errno.ENOENT, id="a missing name"),
        pytest.param(b"s/f/x", errno.ENOTDIR, id="through a file"),
        pytest.param(b"s/f/", errno.ENOTDIR, id="a file with a slash"),
        pytest.param(b"s\0f", errno.EINVAL, id="a NUL"),
        pytest.param(b"..", errno.EXDEV, id="above the root"),
        pytest.param(b"n" * 256, errno.ENAMETOOLONG, id="a long name"),
        pytest.param(b"n/" * 2048, errno.ENAMETOOLONG, id="a long path"),
        pytest.param(b"loop", errno.ELOOP, id="a loop of links"),
    ],
)
def test_paths_that_are_refused(resolve: Resolver, path: bytes, code: int) -> None:
    (resolve.top / "loop").symlink_to("loop")
    with pytest.raises(OSError) as refusal:  # noqa: PT011 - the errno is what counts
        resolve(path)
    assert refusal.value.errno == code


def test_a_path_can_be_asked_for_that_has_no_links(resolve: Resolver) -> None:
    (resolve.top / "l").symlink_to("s")
    assert resolve(b"s/f", follow=None) == number(resolve.top / "s" / "f")
    assert resolve(b"l", follow=None) == number(resolve.top / "l")
    for path in (b"l/f", b"l/"):
        with pytest.raises(OSError, match="a symbolic link is on the way"):
            resolve(path, follow=None)


def test_a_directory_can_be_asked_for(resolve: Resolver) -> None:
    assert resolve(b"s", directory=True) == number(resolve.top / "s")
    with pytest.raises(NotADirectoryError):
        resolve(b"s/f", directory=True)


@pytest.mark.parametrize(
    ("directory_mode", "file_mode", "may"),
    [
        pytest.param(0o711, 0o644, True, id="search above, read on it"),
        pytest.param(0o711, 0o600, False, id="no read on it"),
        pytest.param(0o744, 0o644, False, id="no search above"),
    ],
)
def test_another_user_needs_search_above_and_read_on_it(
    resolve: Resolver, directory_mode: int, file_mode: int, may: bool
) -> None:
    resolve.top.chmod(0o755)
    (resolve.top / "s").chmod(directory_mode)
    (resolve.top / "s" / "f").chmod(file_mode)
    if may:
        assert resolve(b"s/f", ANOTHER)
    else:
        with pytest.raises(PermissionError):
            resolve(b"s/f", ANOTHER)
    assert resolve(b"s/f")


def test_nothing_is_kept_of_a_path_that_is_not_watched(resolve: Resolver) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    resolve(b"s/f")
    with pytest.raises(FileNotFoundError):
        resolve(b"s/missing")
    assert len(resolve.inodes) == 1
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_links_that_lead_over_thousands_of_names_are_eloop(resolve: Resolver) -> None:
    """Linux goes the whole way, in the program's own time."""
    (resolve.top / "l1").symlink_to("s/../" * 800 + "s/f")
    (resolve.top / "l2").symlink_to("s/../" * 800 + "l1")
    (resolve.top / "l3").symlink_to("s/../" * 800 + "l2")
    assert resolve(b"l2") == number(resolve.top / "s" / "f")
    with pytest.raises(OSError, match="lead over 4096 names") as refused:
        resolve(b"l3")
    assert refused.value.errno == errno.ELOOP
