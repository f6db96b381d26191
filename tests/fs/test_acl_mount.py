# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount with ``-o acl`` is not made by libfuse, and is like those that are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import fusenotify
from fusenotify.fs.acl_mount import mount_with_acls, taken_away
from fusenotify.fs.syscalls import mount, umount
from tests.cli.command import fusenotify as command
from tests.conftest import Mounting, User

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts so"),
]


def line_of(mountpoint: str) -> list[str] | None:
    """Return the words of the mount's line in /proc/mounts, its options sorted."""
    with open("/proc/mounts") as mounts:
        for words in map(str.split, mounts):
            if words[1] == mountpoint:
                return [*words[:3], *sorted(words[3].split(","))]
    return None


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["ro", "noexec", "noatime", "sync", "dirsync"],
        ["suid", "dev", "rw", "exec", "async", "atime"],
        ["allow_other", "fsname=some name"],
        ["allow_root", "nosuid", "nodev"],
    ],
    ids=lambda options: ",".join(options) or "none",
)
def test_the_mount_table_shows_what_libfuses_would(mounting: Mounting, options: list[str]) -> None:
    lines = []
    for acl in ([], ["acl"]):
        with mounting(options=[*options, *acl]) as mounted:
            lines.append(line_of(mounted.mountpoint))
        assert line_of(mounted.mountpoint) is None
    assert lines[0] == lines[1]
    assert lines[0] is not None


def test_allow_root_keeps_other_users_out(public_path: Path, nobody: User) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    with fusenotify.mounted(source, mnt, options=["allow_root", "acl"]):
        assert os.listdir(mnt) == []
        assert "Permission denied" in nobody.run("ls", mnt).stderr


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[int]:
    """A mount on tmp_path that nobody serves: of what is done here it is asked nothing."""
    fd = mount_with_acls("nobody's", str(tmp_path), [])
    yield fd
    os.close(fd)
    for _ in range(2):
        with suppress(OSError):
            umount(str(tmp_path), 0)


def test_it_is_taken_away_once(connection: int, tmp_path: Path) -> None:
    assert line_of(str(tmp_path)) is not None
    taken_away(connection, str(tmp_path))
    assert line_of(str(tmp_path)) is None
    taken_away(connection, str(tmp_path))


def test_what_is_mounted_there_later_is_left_alone(connection: int, tmp_path: Path) -> None:
    umount(str(tmp_path), 0)
    mount("later", str(tmp_path), "tmpfs", 0, "")
    taken_away(connection, str(tmp_path))
    line = line_of(str(tmp_path))
    assert line is not None
    assert line[0] == "later"


def test_it_covers_its_own_source_and_is_unmounted_by_command(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("content")
    assert command("mount", tmp_path, "-o", "acl").returncode == 0
    assert line_of(str(tmp_path)) is not None
    assert (tmp_path / "f").read_text() == "content"
    assert command("unmount", tmp_path).returncode == 0
    assert line_of(str(tmp_path)) is None
