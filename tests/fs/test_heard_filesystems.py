# SPDX-License-Identifier: GPL-2.0-or-later
"""Filesystems that are heard behind a mount: below SOURCE, hidden, in another namespace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify
from fusenotify.bits import IN_CREATE
from fusenotify.client import Client
from fusenotify.protocol.status import BehindStatus
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


def test_where_not_all_below_source_can_be_heard_the_rest_is_and_status_says_why(
    tmp_path: Path,
) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    layers = [tmp_path / name for name in ("lower", "upper", "work")]
    for directory in (source / "overlay", mnt, *layers):
        directory.mkdir(parents=True)
    lower, upper, work = layers
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with fusenotify.mounted(source, mnt, behind="all") as mount, mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_CREATE, tree=True)
        place = source / "overlay"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, place], check=True)
        try:
            why_not = (
                "not all below SOURCE is heard: "
                "the handles of SOURCE's kind of filesystem are not known"
            )
            assert soon(lambda: status_of(client).why_not == why_not)
            done(source, "touch overlay/f g")
            assert heard(client, device) == ["CREATE g"]
            assert (mnt / "overlay" / "f").exists()
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
        assert soon(lambda: status_of(client).why_not == "")


def test_what_is_not_heard_is_shown_while_records_of_the_rest_wait(tmp_path: Path) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    layers = [tmp_path / name for name in ("lower", "upper", "work")]
    for directory in (source / "overlay", mnt, *layers):
        directory.mkdir(parents=True)
    lower, upper, work = layers
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, source / "overlay"], check=True
    )
    try:
        with fusenotify.mounted(source, mnt, behind="all") as mount, mount.client() as client:
            client.init(nonblock=True).add_watch("/", IN_CREATE, tree=True)
            done(source, "mkdir $(seq -f overlay/%.0f 100)")
            os.kill(mount.pid, signal.SIGSTOP)
            done(source, "touch $(seq 5000)")
            os.kill(mount.pid, signal.SIGCONT)
            for number in range(1, 101):
                assert os.listdir(mnt / "overlay" / str(number)) == []
    finally:
        subprocess.run(["umount", "--lazy", source / "overlay"], check=True)
