# SPDX-License-Identifier: GPL-2.0-or-later
"""``-o sync`` and ``-o dirsync``: what a call did is on the disk when it returns.

The disk is a file.  After each call it is copied, as it would be found after a crash, and the copy
mounted by ext4; without the option the call is not there yet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fusenotify
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts disks"),
    pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 is missing"),
]


@contextmanager
def ext4(image: Path, place: Path, *options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    # Without the option a commit comes by itself only after so many seconds.
    words = ",".join(["loop", "commit=300", *options])
    mount = subprocess.run(
        ["mount", "-t", "ext4", "-o", words, image, place], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no disk in a file here: {mount.stderr.decode()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def truncate(path: Path) -> None:
    with path.open("wb"):
        pass


NAMES: list[tuple[Callable[[Path], object], Callable[[Path], bool]]] = [
    (lambda top: (top / "d").mkdir(), lambda top: (top / "d").is_dir()),
    (lambda top: (top / "f").touch(), lambda top: (top / "f").exists()),
    (lambda top: (top / "s").symlink_to("f"), lambda top: (top / "s").is_symlink()),
    (lambda top: os.mkfifo(top / "p"), lambda top: (top / "p").is_fifo()),
    (lambda top: os.link(top / "f", top / "l"), lambda top: (top / "l").exists()),
    (
        lambda top: (top / "l").rename(top / "d" / "m"),
        lambda top: (top / "d" / "m").exists() and not (top / "l").exists(),
    ),
    (lambda top: (top / "d" / "m").unlink(), lambda top: not (top / "d" / "m").exists()),
    (lambda top: (top / "d").rmdir(), lambda top: not (top / "d").exists()),
]
ATTRIBUTES: list[tuple[Callable[[Path], object], Callable[[Path], bool]]] = [
    (lambda top: (top / "f").chmod(0o604), lambda top: (top / "f").stat().st_mode & 0o777 == 0o604),
    (lambda top: os.chown(top / "p", 7, 7), lambda top: (top / "p").stat().st_uid == 7),
    (lambda top: os.utime(top / "f", (5, 5)), lambda top: (top / "f").stat().st_mtime == 5),
    (
        lambda top: os.setxattr(top / "f", "user.a", b"b"),
        lambda top: os.getxattr(top / "f", "user.a") == b"b",
    ),
    (lambda top: os.removexattr(top / "f", "user.a"), lambda top: not os.listxattr(top / "f")),
    (
        lambda top: (top / "f").write_bytes(b"content"),
        lambda top: (top / "f").read_bytes() == b"content",
    ),
    (lambda top: truncate(top / "f"), lambda top: (top / "f").stat().st_size == 0),
]


class Disk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.image = path / "image"
        with self.image.open("wb") as file:
            file.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        for name in ("source", "mnt"):
            (path / name).mkdir()

    @contextmanager
    def shown(self, *options: str) -> Iterator[fusenotify.Mounted]:
        with (
            ext4(self.image, self.path / "source") as source,
            fusenotify.mounted(source, self.path / "mnt", options=["nonempty", *options]) as mount,
        ):
            yield mount

    def has(self, condition: Callable[[Path], bool]) -> bool:
        """Return whether the disk would show so after a crash now."""
        copy = self.path / "copy"
        shutil.copyfile(self.image, copy)
        with ext4(copy, self.path / "crashed") as place:
            return condition(place)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_sync_keeps_all(disk: Disk) -> None:
    with disk.shown("sync") as mount:
        for number, (call, condition) in enumerate(NAMES + ATTRIBUTES):
            call(Path(mount.mountpoint))
            assert disk.has(condition), f"call {number}"


def test_dirsync_keeps_names(disk: Disk) -> None:
    with disk.shown("dirsync") as mount:
        for number, (call, condition) in enumerate(NAMES):
            call(Path(mount.mountpoint))
            assert disk.has(condition), f"call {number}"
        call, condition = ATTRIBUTES[0]
        call(Path(mount.mountpoint))
        assert not disk.has(condition)


def test_neither_keeps_none_at_once(disk: Disk) -> None:
    with disk.shown() as mount:
        call, condition = NAMES[0]
        call(Path(mount.mountpoint))
        assert not disk.has(condition)


def test_events_are_told_even_if_the_answer_waits(disk: Disk) -> None:
    with disk.shown("sync") as mount, mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_CREATE)
        for name in "abc":
            (Path(mount.mountpoint) / name).mkdir()
        client.sync()
        assert [event.name for event in unpack(device.read(4096))] == [b"a", b"b", b"c"]
