# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify clean`` takes away what a dead daemon left, and nothing else."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify.mounting.mountpoints import State, find, state_of
from tests.cli.command import ended, fusenotify
from tests.cli.test_mount import daemon_of, socket_of
from tests.conftest import Mounting, User, modules

pytestmark = pytest.mark.mount


def made(path: Path, *names: str) -> list[Path]:
    for name in names:
        (path / name).mkdir()
    return [path / name for name in names]


def killed(source: Path, mountpoint: Path) -> str:
    """Mount, kill the daemon, and return its socket."""
    assert fusenotify("mount", source, mountpoint).returncode == 0
    pid, socket = daemon_of(mountpoint), socket_of(mountpoint)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    return socket


def test_a_dead_mount_goes_with_its_socket_and_a_living_one_stays(
    mounting: Mounting, tmp_path: Path
) -> None:
    source, dead = made(tmp_path, "a", "dead \udcff")
    socket = killed(source, dead)
    with mounting() as living:
        places = [Path(living.mountpoint), dead, tmp_path]
        done = fusenotify("clean", *places)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{tmp_path}/dead \\xff: unmounted; its daemon is gone\n"
        assert not os.path.exists(socket)
        assert os.listdir(living.mountpoint) == os.listdir(dead) == []
        done = fusenotify("clean", *places)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mount_whose_source_is_dead_lives(tmp_path: Path) -> None:
    source, below, mountpoint, other = made(tmp_path, "a", "below", "mnt", "other")
    with package.mounted(source, below) as first, package.mounted(below, mountpoint) as mount:
        os.kill(first.pid, signal.SIGKILL)
        assert ended(first.pid)
        dead = find(str(below))
        assert dead is not None
        assert state_of(dead) is State.DEAD
        with pytest.raises(OSError, match="Input/output error"):
            os.statvfs(mountpoint)
        done = fusenotify("clean", "--dry-run", below, mountpoint)
        assert (done.returncode, done.stdout) == (0, f"{below}: its daemon is gone\n")
        done = fusenotify("clean", below, mountpoint)
        assert done.stdout == f"{below}: unmounted; its daemon is gone\n"
        assert find(mount.mountpoint) is not None
        # And mounting does not take it for dead either.
        done = fusenotify("mount", other, mountpoint)
        assert "already mounted by fusenotify; see" in done.stderr


# As an ordinary user: mounts directories, kills the first two daemons, and stops the last.
_AS_USER = """
import os, signal, subprocess, sys
from tests.cli.command import ended
from tests.cli.test_mount import daemon_of
source, *places = sys.argv[1:]
pids = []
for place in places:
    subprocess.run([sys.executable, "-m", "fusenotify", "mount", source, place], check=True)
    pids.append(daemon_of(place))
for pid in pids[:2]:
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
os.kill(pids[-1], signal.SIGSTOP)
"""
# The daemons end with their pid namespace.
_APART = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec"]


def test_root_cleans_up_for_all_and_users_what_is_theirs(public_path: Path, nobody: User) -> None:
    places = made(public_path, "a", "dead", "buried", "living", "stopped")
    for place in places:
        os.chown(place, nobody.uid, nobody.uid)
    names = list(map(str, places))
    _, dead, buried, living, stopped = names
    clean = [nobody.python, "-m", "fusenotify", "clean"]
    steps = [
        nobody.as_user([nobody.python, "-c", _AS_USER, *names]),
        User(nobody.uid - 1, nobody.python).as_user([*clean, *names]),
        nobody.as_user([*clean, dead, living]),
        [*clean, *names],  # root
        ["findmnt", "-n", "-r", "-o", "TARGET", "-t", "fuse.fusenotify"],
    ]
    script = (
        "mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse; cd /\n"
        + "; echo --; ".join(map(shlex.join, steps))
    )
    done = subprocess.run(
        [*_APART, script],
        env=modules() | {"XDG_RUNTIME_DIR": str(places[0])},
        cwd=public_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    _, by_another, by_the_user, by_root, left = done.stdout.split("--\n")
    assert by_another == ""
    assert by_the_user == f"{dead}: unmounted; its daemon is gone\n"
    assert by_root == f"{buried}: unmounted; its daemon is gone\n"
    assert {living, stopped} == set(left.split()) & set(names)
