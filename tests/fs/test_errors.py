# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong with SOURCE comes to the program as its errno, and ends nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.masks import IN_CREATE, IN_MODIFY
from tests.cli.command import until
from tests.conftest import Mounting
from tests.fs.conftest import FailingDisk
from tests.fs.failing_disk import BROKEN, LOST

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts other filesystems"),
]


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)


def refused(code: int, call: Callable[[], object]) -> None:
    """Assert that a call fails with an errno."""
    with pytest.raises(OSError, match=os.strerror(code)):
        call()


def is_read_only(path: Path) -> bool:
    try:
        os.utime(path)
    except OSError as error:
        assert error.errno == errno.EROFS  # noqa: PT017
        return True
    return False


def is_served(mount: Mounted) -> bool:
    """Return whether mount and server answer."""
    with mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_CREATE)
        client.sync()
    return os.path.ismount(mount.mountpoint)


def test_a_full_disk_is_enospc_and_heals(source: Path, mounting: Mounting) -> None:
    run("mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=20", "full", source)
    with mounting() as mount, mount.client() as client:
        top = Path(mount.mountpoint)
        device = client.init(nonblock=True)
        device.add_watch("/", IN_MODIFY)
        with open(top / "f", "wb", buffering=0) as file:
            for _ in range(4):
                assert file.write(b"x" * 65536) == 65536
            client.sync()
            device.read(4096)
            refused(errno.ENOSPC, lambda: file.write(b"x"))
            client.sync()
            assert not device.fionread()  # what failed is not told
        for number in range(30):
            try:
                (top / str(number)).touch()
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017
                break
        else:
            pytest.fail("there was room for all")
        refused(errno.ENOSPC, lambda: (top / "s").mkdir())
        refused(errno.ENOSPC, lambda: (top / "l").symlink_to("x"))
        assert is_served(mount)
        (top / "f").unlink()
        # The kernel forgets what was removed, and so gives room back, without waiting for it.
        until(lambda: os.statvfs(source).f_bfree > 32, "there is room again")
        (top / "g").write_text("room again")
        assert (source / "g").read_text() == "room again"


def test_a_read_only_source_is_erofs(source: Path, mounting: Mounting, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "f").write_text("content")
    run("mount", "--bind", tmp_path / "below", source)
    run("mount", "-o", "remount,bind,ro", source)
    with mounting() as mount:
        top = Path(mount.mountpoint)
        assert (top / "f").read_text() == "content"
        calls: list[Callable[[], object]] = [
            lambda: (top / "f").write_text("x"),
            lambda: (top / "g").touch(),
            lambda: (top / "s").mkdir(),
            lambda: (top / "f").unlink(),
            lambda: (top / "f").rename(top / "g"),
            lambda: (top / "f").chmod(0o600),
            lambda: os.utime(top / "f"),
            lambda: os.truncate(top / "f", 0),
            lambda: os.link(top / "f", top / "g"),
            lambda: os.setxattr(top / "f", "user.x", b"y"),
        ]
        for call in calls:
            refused(errno.EROFS, call)
        run("mount", "-o", "remount,bind,rw", source)
        until(lambda: not is_read_only(top / "f"), "it can be written again")
        (top / "f").write_text("writable again")
        assert is_served(mount)


def test_a_removed_source_is_empty_and_refuses_names(source: Path, mounting: Mounting) -> None:
    with mounting(attr_timeout=0, entry_timeout=0) as mount:
        top = Path(mount.mountpoint)
        (top / "s").mkdir()
        (top / "s" / "f").write_text("content")
        with open(top / "s" / "f") as file:
            shutil.rmtree(source)
            assert file.read() == "content"
        assert os.listdir(top) == []
        assert not (top / "s").exists()
        refused(errno.ENOENT, lambda: (top / "g").touch())
        refused(errno.ENOENT, lambda: (top / "s").mkdir())
        assert is_served(mount)


def test_a_source_unmounted_underneath_stays_until_the_mount_ends(
    source: Path, mounting: Mounting
) -> None:
    run("mount", "-t", "tmpfs", "gone", source)
    with mounting() as mount:
        top = Path(mount.mountpoint)
        (top / "f").write_text("content")
        assert subprocess.run(["umount", source], capture_output=True, check=False).returncode
        run("umount", "--lazy", source)
        assert os.listdir(source) == []
        assert (top / "f").read_text() == "content"
        (top / "g").write_text("more")
        assert sorted(os.listdir(top)) == ["f", "g"]
        assert is_served(mount)


def test_a_broken_disk_is_eio(disk: FailingDisk, mounting: Mounting) -> None:
    with mounting() as mount:
        path = Path(mount.mountpoint) / "f"
        fd = os.open(path, os.O_RDWR)
        try:
            assert os.pwrite(fd, b"x", 0) == 1
            assert os.pread(fd, 1, 0) == b"x"
            refused(errno.EIO, lambda: os.pwrite(fd, b"x", BROKEN))
            refused(errno.EIO, lambda: os.pread(fd, 1, BROKEN))
            assert os.pread(fd, 1, 0) == b"x"
        finally:
            os.close(fd)
        assert is_served(mount)


def test_the_errors_of_a_disk_at_the_close_are_reported(
    disk: FailingDisk, mounting: Mounting
) -> None:
    with mounting() as mount:
        fd = os.open(Path(mount.mountpoint) / "f", os.O_WRONLY)
        os.write(fd, LOST)
        refused(errno.EIO, lambda: os.close(fd))
        assert is_served(mount)


def test_a_source_whose_own_server_died_is_enotconn_and_the_daemon_goes_on(
    disk: FailingDisk, source: Path, mounting: Mounting
) -> None:
    with mounting(attr_timeout=0, entry_timeout=0) as mount:
        top = Path(mount.mountpoint)
        assert (top / "f").exists()
        run("umount", "--lazy", "--force", source)
        disk.process.kill()
        disk.process.wait()
        refused(errno.ENOTCONN, lambda: os.listdir(top))
        refused(errno.ENOTCONN, lambda: (top / "f").stat())
        with mount.client() as client:
            client.sync()


def test_a_slow_fsync_stops_nobody_else(disk: FailingDisk, mounting: Mounting) -> None:
    with mounting() as mount, ExitStack() as closing:
        top = Path(mount.mountpoint)
        fd = os.open(top / "f", os.O_WRONLY)
        closing.callback(os.close, fd)
        done: list[str] = []

        def sync() -> None:
            os.fsync(fd)
            done.append("fsync")

        thread = threading.Thread(target=sync)
        thread.start()
        try:
            disk.expect("fsync")
            with mount.client() as client:
                device = client.init(nonblock=True)
                device.add_watch("/f", IN_MODIFY)
                client.sync()
                assert (top / "f").exists()
                assert not (top / "other").exists()
            assert not done
        finally:
            disk.let_go()
            thread.join()
        assert done == ["fsync"]


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC], ids=["O_SYNC", "O_DSYNC"])
def test_a_write_that_waits_for_the_disk_stops_nobody_else(
    disk: FailingDisk, mounting: Mounting, flag: int
) -> None:
    with mounting() as mount, ExitStack() as closing:
        top = Path(mount.mountpoint)
        fd = os.open(top / "f", os.O_WRONLY | flag)
        closing.callback(os.close, fd)
        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(os.write(fd, b"x")))
        thread.start()
        try:
            disk.expect("fsync")
            assert not (top / "other").exists()
            assert not done
        finally:
            disk.let_go()
            thread.join()
        assert done == [1]
