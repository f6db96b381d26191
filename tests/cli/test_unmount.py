# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify unmount``: what it refuses, and what it does with a busy mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify.cli import main
from tests.cli.command import ended, fusenotify, until
from tests.conftest import Mounting, User


def test_a_directory_without_a_mount_is_refused(tmp_path: Path) -> None:
    done = fusenotify("unmount", tmp_path)
    assert done.stderr == (
        f"fusenotify: {tmp_path}: no fusenotify mount is there; "
        "'fusenotify status' lists the mounts\n"
    )
    assert done.returncode == 1


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    done = fusenotify("unmount", tmp_path / "gone")
    assert "no fusenotify mount is there" in done.stderr
    assert done.returncode == 1


def test_it_wants_a_mount_point() -> None:
    done = fusenotify("unmount")
    assert "the following arguments are required: MNT" in done.stderr
    assert done.returncode == 2


@pytest.mark.mount
def test_a_mount_of_somebody_else_is_refused() -> None:
    done = fusenotify("unmount", "/proc")
    assert done.stderr.startswith("fusenotify: /proc: no fusenotify mount is there")
    assert done.returncode == 1


@pytest.mark.mount
def test_a_mount_of_another_user_is_refused_with_who_may(public_path: Path, nobody: User) -> None:
    mnt = public_path / "mnt"
    for directory in (public_path / "source", mnt):
        directory.mkdir()
    with package.mounted(public_path / "source", mnt):
        done = nobody.run(nobody.python, "-m", "fusenotify", "unmount", str(mnt))
        assert os.path.ismount(mnt)
    assert done.stderr == (
        f"fusenotify: {mnt}: cannot be unmounted: "
        "user 0 mounted it; only that user and root may unmount it\n"
    )
    assert done.returncode == 1


@pytest.mark.mount
def test_a_directory_in_a_mount_is_refused_with_the_mount_point(mounting: Mounting) -> None:
    with mounting() as mount:
        os.mkdir(f"{mount.mountpoint}/below")
        done = fusenotify("unmount", f"{mount.mountpoint}/below")
        assert done.stderr == (
            f"fusenotify: {mount.mountpoint}/below: not a mount point; "
            f"the mount around it is {mount.mountpoint}\n"
        )
        assert done.returncode == 1
        assert os.path.ismount(mount.mountpoint)


@pytest.mark.mount
def test_a_busy_mount_stays_and_a_lazy_unmount_hides_it(mounting: Mounting) -> None:
    with mounting() as mount:
        busy = subprocess.Popen(["cat"], cwd=mount.mountpoint, stdin=subprocess.PIPE)
        with busy:
            done = fusenotify("unmount", mount.mountpoint)
            assert done.stderr == (
                f"fusenotify: {mount.mountpoint}: busy, programs have files open or work in it "
                "(fuser -vm shows them); end them, or use --lazy\n"
            )
            assert done.returncode == 1
            assert os.path.ismount(mount.mountpoint)

            done = fusenotify("unmount", "--lazy", mount.mountpoint)
            assert done.returncode == 0
            assert done.stderr == (
                "fusenotify: hidden; the daemon ends when all files are closed\n"
            )
            assert not os.path.ismount(mount.mountpoint)
            assert not ended(mount.pid, seconds=0)
        assert ended(mount.pid)


@pytest.mark.mount
def test_a_lazy_unmount_of_an_idle_mount_says_nothing(mounting: Mounting) -> None:
    with mounting() as mount:
        done = fusenotify("unmount", "-l", mount.mountpoint)
        assert (done.returncode, done.stderr) == (0, "")
        assert ended(mount.pid, seconds=0)


@pytest.mark.mount
def test_a_stopped_daemon_is_named_and_a_lazy_unmount_still_works(mounting: Mounting) -> None:
    with mounting() as mount:
        os.kill(mount.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, mount.pid, os.WSTOPPED)
            done = fusenotify("unmount", mount.mountpoint)
            assert done.stderr == (
                f"fusenotify: {mount.mountpoint}: its daemon does not answer; "
                "continue or kill it, or use --lazy\n"
            )
            assert done.returncode == 1
            done = fusenotify("status", mount.mountpoint)
            assert "its daemon does not answer; is it stopped?" in done.stdout
            assert done.returncode == 1
            assert fusenotify("unmount", "--lazy", mount.mountpoint).returncode == 0
            assert not os.path.ismount(mount.mountpoint)
        finally:
            os.kill(mount.pid, signal.SIGCONT)


@pytest.mark.mount
def test_a_copy_in_another_mount_namespace_keeps_the_daemon_until_sigterm(
    mounting: Mounting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid():
        pytest.skip("only root makes a mount namespace without one of users")
    monkeypatch.setattr("fusenotify.cli.unmount._END_SECONDS", 0.5)
    with mounting() as mount:
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo; exec cat"]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with other:
            assert other.stdout is not None
            other.stdout.readline()
            assert main(["unmount", mount.mountpoint]) == 1
            assert "it serves a copy in another mount namespace" in capsys.readouterr().err
            assert not os.path.ismount(mount.mountpoint)
            assert not ended(mount.pid, seconds=0)
            os.kill(mount.pid, signal.SIGTERM)
            assert ended(mount.pid)


# A daemon that answers a RELEASE only when the mount has gone.
_LATE = """
import os, select, sys
from fusenotify.cli import main
from fusenotify.fs.file_requests import FileRequests

def is_fuse(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse"
    except FileNotFoundError:
        return False

async def release(self, fh):
    await early(self, fh)
    fuse = select.poll()
    fuse.register(next(int(name) for name in os.listdir("/proc/self/fd") if is_fuse(name)), 0)
    fuse.poll()  # until the kernel has ended the connection

early, FileRequests.release = FileRequests.release, release
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.mount
def test_a_file_whose_closing_is_answered_late_is_no_fault_of_the_mount(tmp_path: Path) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    command = [sys.executable, "-c", _LATE, "mount", "-f", str(source), str(mnt)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        until(mnt.is_mount, "it is mounted")
        (mnt / "file").write_text("content")
        subprocess.run(["fusermount3", "-u", mnt], check=True)
        _, said = daemon.communicate(timeout=30)
    assert (daemon.returncode, said) == (0, "")
