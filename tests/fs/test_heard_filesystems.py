# SPDX-License-Identifier: GPL-2.0-or-later
"""Filesystems that are heard behind a mount: below SOURCE, hidden, in another namespace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify
from fusenotify.bits import IN_CREATE, IN_MODIFY
from fusenotify.client import Client, Inotify
from fusenotify.fs.syscalls import file_handle
from fusenotify.protocol.status import BehindStatus
from tests.conftest import modules
from tests.fs.test_behind import soon
from tests.fs.test_heard_behind import NAMES, done, heard

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem"),
]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Return an empty source and a mount point."""
    made = tmp_path / "source", tmp_path / "mnt"
    for directory in made:
        directory.mkdir()
    return made


@pytest.fixture
def small_disk(tmp_path: Path, places: tuple[Path, Path]) -> Iterator[None]:
    """Make SOURCE a disk of its own."""
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, places[0]], check=True)
    yield
    subprocess.run(["umount", places[0]], check=True)


# Writes to a file by its handle; the data is other than before, the size and time are the same.
_BY_HANDLE = """
import os, sys
from fusenotify.fs.syscalls import open_by_handle
fd = open_by_handle(os.open(sys.argv[1], os.O_RDONLY), bytes.fromhex(sys.argv[2]), os.O_RDWR)
assert "/f" not in os.readlink(f"/proc/self/fd/{fd}")
status = os.fstat(fd)
os.write(fd, b"after!")
os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
"""


@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 is missing")
@pytest.mark.usefixtures("small_disk")
def test_what_is_written_by_file_handle_is_heard_though_no_name_is_in_memory(
    places: tuple[Path, Path],
) -> None:
    source, mnt = places
    (source / "f").write_text("before")
    for number in range(300):
        (source / str(number)).touch()
    held = os.open(source / "f", os.O_PATH)
    handle = file_handle(held)[1]
    os.close(held)
    fusenotify = [sys.executable, "-m", "fusenotify"]
    few = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *fusenotify]
    subprocess.run([*few, "mount", "--behind", "all", source, mnt], check=True)
    try:
        with Inotify() as inotify:
            inotify.add_watch(mnt / "f", IN_MODIFY)
            assert (mnt / "f").read_text() == "before"
            for number in range(300):
                (mnt / str(number)).stat()  # the daemon has no descriptor of f any more
            subprocess.run(["mount", "-o", "remount", source], check=True)  # which forgets names
            command = [sys.executable, "-c", _BY_HANDLE, str(source), handle.hex()]
            subprocess.run(command, env=modules(), check=True)
            inotify.sync()
            assert [event.mask for event in inotify.read(0)] == [IN_MODIFY]
            assert (mnt / "f").read_text() == "after!"
    finally:
        subprocess.run([*fusenotify, "unmount", mnt], check=True)


def status_of(client: Client) -> BehindStatus:
    behind = client.status().behind
    assert behind is not None
    return behind


def test_filesystems_below_source_are_heard_and_one_that_is_unmounted_is_not(
    tmp_path: Path,
) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    for directory in (source / "t", mnt):
        directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "t"], check=True)
    try:
        with fusenotify.mounted(source, mnt, behind="all") as mount, mount.client() as client:
            device = client.init(nonblock=True)
            device.add_watch("/", IN_CREATE, tree=True)
            done(source, "mkdir t/d; touch t/d/f g")
            assert heard(client, device) == ["CREATE|ISDIR t/d", "CREATE t/d/f", "CREATE g"]
            subprocess.run(["umount", "--lazy", source / "t"], check=True)
            done(source, "touch h")
            assert "CREATE h" in heard(client, device)
    finally:
        subprocess.run(["umount", "--lazy", source / "t"], check=False, capture_output=True)


@contextlib.contextmanager
def tmpfs_elsewhere(directory: Path) -> Iterator[Path]:
    """Mount a tmpfs, with a directory d, in another mount namespace; yield a path to it."""
    script = f"mount -t tmpfs tmpfs {directory}; mkdir {directory}/d; echo; read end"
    command = ["unshare", "--mount", "sh", "-ec", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holding:
        assert holding.stdin is not None
        assert holding.stdout is not None
        holding.stdout.readline()
        yield Path(f"/proc/{holding.pid}/root{directory}")
        holding.stdin.write(b"end\n")


@pytest.mark.parametrize("behind", ["watched", "all"])
def test_source_in_another_mount_namespace_is_heard(places: tuple[Path, Path], behind: str) -> None:
    source, mnt = places
    with (
        tmpfs_elsewhere(source) as there,
        fusenotify.mounted(there, mnt, behind=behind) as mount,
        mount.client() as client,
    ):
        device = client.init(nonblock=True)
        device.add_watch("/", NAMES, tree=True)
        done(there, "mkdir d/e; mv d/e f")
        told = ["CREATE|ISDIR d/e", "MOVED_FROM|ISDIR d/e", "MOVED_TO|ISDIR f"]
        assert heard(client, device) == told
        assert sorted(os.listdir(mnt)) == ["d", "f"]
        assert (status_of(client).hears, status_of(client).why_not) == (behind, "")


@pytest.mark.parametrize("behind", ["watched", "all"])
def test_a_source_that_is_unmounted_lazily_is_heard_as_long_as_it_is_used(
    places: tuple[Path, Path], behind: str
) -> None:
    source, mnt = places
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source], check=True)
    used = os.open(source, os.O_PATH)
    try:
        with fusenotify.mounted(source, mnt, behind=behind) as mount, mount.client() as client:
            device = client.init(nonblock=True)
            device.add_watch("/", NAMES, tree=True)
            os.mkdir("d", dir_fd=used)
            assert heard(client, device) == ["CREATE|ISDIR d"]
            subprocess.run(["umount", "--lazy", source], check=True)
            os.mkdir("d/e", dir_fd=used)
            os.rename("d/e", "f", src_dir_fd=used, dst_dir_fd=used)
            told = ["CREATE|ISDIR d/e", "MOVED_FROM|ISDIR d/e", "MOVED_TO|ISDIR f"]
            assert heard(client, device) == told
            (mnt / "f" / "through").touch()
            assert heard(client, device) == ["CREATE f/through"]
            assert sorted(os.listdir(mnt)) == ["d", "f"]
    finally:
        os.close(used)
        subprocess.run(["umount", "--lazy", source], check=False, capture_output=True)


@contextlib.contextmanager
def overlay_at(place: Path) -> Iterator[None]:
    """Mount an overlay at a new directory of SOURCE."""
    lower, upper, work = layers = [place.parents[1] / name for name in ("lower", "upper", "work")]
    for directory in (place, *layers):
        directory.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_where_not_all_below_source_can_be_heard_the_rest_is_and_status_says_why(
    places: tuple[Path, Path],
) -> None:
    source, mnt = places
    with fusenotify.mounted(source, mnt, behind="all") as mount, mount.client() as client:
        with overlay_at(source / "overlay"):
            device = client.init(nonblock=True)
            device.add_watch("/", IN_CREATE, tree=True)
            why_not = (
                "not all below SOURCE is heard: "
                "the handles of SOURCE's kind of filesystem are not known"
            )
            assert soon(lambda: status_of(client).why_not == why_not)
            done(source, "touch overlay/f g")
            assert heard(client, device) == ["CREATE g"]
            assert (mnt / "overlay" / "f").exists()
        assert soon(lambda: status_of(client).why_not == "")


def test_what_is_not_heard_is_shown_while_records_of_the_rest_wait(
    places: tuple[Path, Path],
) -> None:
    source, mnt = places
    with (
        overlay_at(source / "overlay"),
        fusenotify.mounted(source, mnt, behind="all") as mount,
        mount.client() as client,
    ):
        client.init(nonblock=True).add_watch("/", IN_CREATE, tree=True)
        done(source, "mkdir $(seq -f overlay/%.0f 100)")
        os.kill(mount.pid, signal.SIGSTOP)
        done(source, "touch $(seq 5000)")
        os.kill(mount.pid, signal.SIGCONT)
        for number in range(1, 101):
            assert os.listdir(mnt / "overlay" / str(number)) == []
