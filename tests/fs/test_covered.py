# SPDX-License-Identifier: GPL-2.0-or-later
"""What another filesystem covers in the mount is no path of it."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify
from fusenotify import Mounted, mountinfo
from fusenotify.client import Client, Device, Inotify
from fusenotify.events import unpack
from fusenotify.fs.covered import Covered
from fusenotify.fs.syscalls import clone_mount
from fusenotify.masks import IN_CREATE
from tests.counting import counted_calls

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts other filesystems"),
]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    (tmp_path / "source" / "top" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "mnt").mkdir()
    with fusenotify.mounted(tmp_path / "source", tmp_path / "mnt") as mounted:
        yield mounted


@pytest.fixture
def device(mounted: Mounted) -> Iterator[Device]:
    with Client(mounted.socket) as client:
        yield client.init()


@contextlib.contextmanager
def covering(*what: str | Path, on: Path) -> Iterator[None]:
    """Mount something on a path while the block runs."""
    subprocess.run(["mount", *what, on], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", on], check=True)


def verdict(device: Device, path: str) -> str:
    try:
        device.add_watch(path, IN_CREATE)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "watched"


def test_it_stays_when_a_file_outside_gets_a_second_link(mounted: Mounted, device: Device) -> None:
    top = Path(mounted.mountpoint, "top")
    device.add_watch("/", IN_CREATE)
    with covering("-t", "tmpfs", "tmpfs", on=top / "sub"):
        (top / "sub" / "covering").touch()
        (top.parent / "f").touch()
        os.link(top.parent / "f", top.parent / "g")
        device.add_watch("top", IN_CREATE)
        assert (top / "sub" / "covering").exists()


def test_it_is_exdev_as_for_an_inotify(mounted: Mounted, device: Device) -> None:
    top = Path(mounted.mountpoint, "top")
    assert verdict(device, "top/sub") == "watched"
    with covering("-t", "tmpfs", "none", on=top / "sub"), Inotify() as inotify:
        (top / "sub" / "deep").mkdir()
        with pytest.raises(OSError, match="tmpfs") as refused:
            inotify.add_watch(top / "sub", IN_CREATE)
        assert refused.value.errno == errno.EXDEV
        for path in ("top/sub", "/top/sub/", "top/sub/deep", "top/./sub"):
            assert verdict(device, path) == "EXDEV"
        for path in ("top", "top/sub/..", "/"):
            assert verdict(device, path) == "watched"
    assert verdict(device, "top/sub/deep") == "watched"


def test_it_stays_so_when_a_directory_above_is_renamed(mounted: Mounted, device: Device) -> None:
    top = Path(mounted.mountpoint, "top")
    with covering("-t", "tmpfs", "none", on=top / "sub"):
        assert verdict(device, "top/sub") == "EXDEV"
        top.rename(top.with_name("renamed"))
        assert verdict(device, "renamed/sub") == "EXDEV"
        top.with_name("renamed").rename(top)


def test_a_file_may_be_covered_and_a_directory_by_the_mounts_own(
    mounted: Mounted, device: Device, tmp_path: Path
) -> None:
    top = Path(mounted.mountpoint, "top")
    (top / "file").touch()
    with covering("--bind", "/etc/passwd", on=top / "file"):
        assert verdict(device, "top/file") == "EXDEV"
    (tmp_path / "elsewhere").mkdir()
    with (
        covering("--bind", "--make-private", top, on=tmp_path / "elsewhere"),
        covering("-t", "tmpfs", "none", on=tmp_path / "elsewhere" / "sub"),
    ):
        assert verdict(device, "top/sub") == "watched"  # it is covered elsewhere only


def test_an_object_covered_deep_below_takes_no_more_calls(tmp_path: Path) -> None:
    deep = Path(*["d"] * 300)
    calls: list[int] = []
    with covering("-t", "tmpfs", "none", on=tmp_path):
        own = mountinfo.mount_of(os.fsencode(tmp_path))
        assert own is not None
        opened = os.open(tmp_path, os.O_PATH)
        top = clone_mount(opened)  # shows nothing that is mounted there
        os.close(opened)
        for below in (tmp_path / "top", tmp_path / deep):
            below.mkdir(parents=True)
            hidden = below.stat()
            with covering("-t", "tmpfs", "none", on=below):
                with counted_calls() as counted:
                    covered = Covered(own, top)
                calls.append(counted.number)
                assert covered.objects() == {(hidden.st_dev, hidden.st_ino)}
                covered.close()
        os.close(top)
    assert calls[1] < calls[0] + 100


def test_a_watch_from_before_goes_on_beneath(mounted: Mounted, device: Device) -> None:
    sub = Path(mounted.mountpoint, "top", "sub")
    device.add_watch("top/sub", IN_CREATE)
    inside = os.open(sub, os.O_PATH)
    with covering("-t", "tmpfs", "none", on=sub):
        (sub / "above").touch()
        os.close(os.open("beneath", os.O_CREAT | os.O_WRONLY, dir_fd=inside))
        assert [event.name for event in unpack(device.read(timeout=5))] == [b"beneath"]
    os.close(inside)
