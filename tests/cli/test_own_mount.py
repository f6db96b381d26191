# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon takes away its own mount, whatever its path leads to by then, and no other one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusenotify import Mounted, mountinfo
from fusenotify.mounting.mountpoints import find, take_away
from fusenotify.mounting.settings import socket_directory
from tests.cli.command import FUSENOTIFY, ended, environment, fusenotify, until
from tests.conftest import Mounting, User, modules

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts other filesystems"),
]


@contextmanager
def tmpfs(place: str | Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "theirs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def mounted_on(place: str | Path) -> list[str]:
    """Return the types of what is mounted on a directory, the uppermost last."""
    wanted = os.fsencode(place)
    return [mount.fstype for mount in mountinfo.mounts() if mount.mountpoint == wanted]


def end(mount: Mounted) -> None:
    os.kill(mount.pid, signal.SIGTERM)
    assert ended(mount.pid)


@pytest.mark.parametrize("options", [[], ["auto_unmount"]], ids=["", "auto_unmount"])
def test_a_mount_that_replaced_a_hidden_one_stays(mounting: Mounting, options: list[str]) -> None:
    with mounting(options=options) as mount, open(f"{mount.mountpoint}/f", "w"):
        assert fusenotify("unmount", "--lazy", mount.mountpoint).returncode == 0
        with tmpfs(mount.mountpoint):
            end(mount)
            assert mounted_on(mount.mountpoint) == ["tmpfs"]


def test_a_mount_that_covers_a_dead_mount_stays_and_so_does_the_dead_one(
    mounting: Mounting,
) -> None:
    with mounting() as mount:
        with tmpfs(mount.mountpoint):
            done = fusenotify("unmount", mount.mountpoint)
            assert "no fusenotify mount is there" in done.stderr
            end(mount)
            assert mounted_on(mount.mountpoint) == [mountinfo.FSTYPE, "tmpfs"]
        done = fusenotify("status", mount.mountpoint)
        assert "its daemon is dead" in done.stdout
        # The end of the block takes it away.


def test_a_mount_that_was_moved_is_taken_away_where_it_is(
    mounting: Mounting, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with mounting() as mount:
        moved = subprocess.run(
            ["mount", "--move", mount.mountpoint, elsewhere], capture_output=True, check=False
        )
        if moved.returncode:
            pytest.skip("mounts cannot be moved here")
        with tmpfs(mount.mountpoint):
            end(mount)
            assert mounted_on(mount.mountpoint) == ["tmpfs"]
            assert mounted_on(elsewhere) == []


def test_a_mount_that_replaced_a_killed_daemons_mount_stays(mounting: Mounting) -> None:
    with mounting() as mount:
        os.kill(mount.pid, signal.SIGKILL)
        assert ended(mount.pid)
        subprocess.run(["umount", "--lazy", mount.mountpoint], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "theirs", mount.mountpoint], check=True)
    assert mounted_on(mount.mountpoint) == ["tmpfs"]
    subprocess.run(["umount", mount.mountpoint], check=True)


def test_another_of_ours_that_came_in_place_of_a_killed_daemons_stays(mounting: Mounting) -> None:
    """Though it may have got the number, the kernel's and in mountinfo, of the first one."""
    with mounting() as first:
        os.kill(first.pid, signal.SIGKILL)
        assert ended(first.pid)
        subprocess.run(["umount", "--lazy", first.mountpoint], check=True)
        assert fusenotify("mount", first.source, first.mountpoint).returncode == 0
    assert mounted_on(first.mountpoint) == [mountinfo.FSTYPE]
    assert fusenotify("unmount", first.mountpoint).returncode == 0


def test_a_mount_point_whose_mount_is_hidden_can_be_mounted_again(mounting: Mounting) -> None:
    with mounting() as first:
        with open(f"{first.mountpoint}/f", "w+") as file:
            assert fusenotify("unmount", "--lazy", first.mountpoint).returncode == 0
            with mounting() as second, second.client() as client:
                assert second.socket != first.socket
                assert client.status().pid == second.pid
                file.write("the old one answers")
                file.flush()
            assert os.path.exists(first.socket)
        assert ended(first.pid)
        assert not os.path.exists(first.socket)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")
def test_of_two_simultaneous_mounts_one_is_refused(tmp_path: Path) -> None:
    """Both have looked before one of them mounts; the other one finds itself on top of it."""
    places = [tmp_path / "source", tmp_path / "mnt"]
    for place in places:
        place.mkdir()
    slow = ["strace", "-f", "-o", "/dev/null", "--trace=mount", "--inject=mount:delay_enter=500000"]
    command = [*slow, "--quiet=all", *FUSENOTIFY, "mount", "-f", *map(str, places)]
    both = [
        subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    until(lambda: any(each.poll() is not None for each in both), "one is refused")
    (other,) = [each for each in both if each.poll() is None]
    assert mounted_on(places[1]) == [mountinfo.FSTYPE]
    assert fusenotify("unmount", places[1]).returncode == 0
    assert [other.communicate(timeout=30)[1], other.returncode] == ["", 0]
    both.remove(other)
    assert [both[0].communicate()[1], both[0].returncode] == [
        f"fusenotify: {places[1]}: something else was mounted there at the same time\n",
        1,
    ]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")
def test_a_mount_that_a_killed_fusermount3_left_is_unmounted(tmp_path: Path) -> None:
    """Between mount(2) and handing the descriptor over; Ctrl-C reaches it as it does us."""
    places = [tmp_path / "source", tmp_path / "mnt"]
    for place in places:
        place.mkdir()
    kill = ["strace", "-f", "-o", "/dev/null", "--trace=sendmsg", "--inject=sendmsg:signal=KILL"]
    command = [*kill, "--quiet=all", *FUSENOTIFY, "mount", "-f", "-o", "auto_unmount"]
    done = subprocess.run(
        [*command, *places], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert "FUSE refuses to mount" in done.stderr
    assert done.returncode == 1
    assert mounted_on(places[1]) == []


def test_mount_namespaces_do_not_share_a_socket(mounting: Mounting) -> None:
    script = 'mount --make-rprivate / && "$@" && "$0" -c "$LOOK" "$MNT" && umount "$MNT"'
    look = "import os, sys; print(os.getxattr(sys.argv[1], 'user.fusenotify.socket').decode())"
    with mounting() as here:
        subprocess.run(["mount", "--make-private", here.mountpoint], check=True)
        namespace = ["unshare", "--mount", "sh", "-ec", 'umount -l "$MNT"; ' + script]
        done = subprocess.run(
            [*namespace, FUSENOTIFY[0], *FUSENOTIFY, "mount", here.source, here.mountpoint],
            env=environment() | {"LOOK": look, "MNT": here.mountpoint},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        there = done.stdout.strip()
        assert os.path.dirname(there) == os.path.dirname(here.socket) == socket_directory()
        assert there != here.socket
        with here.client() as client:
            assert client.status().pid == here.pid


def test_root_in_a_user_namespace_mounts_without_a_runtime_directory(
    public_path: Path, nobody: User
) -> None:
    for name in "source", "mnt":
        (public_path / name).mkdir()
        os.chown(public_path / name, nobody.uid, nobody.uid)
    (public_path / "source" / "f").touch()
    os.makedirs("/run/fusenotify", exist_ok=True)
    places = f"{public_path}/source {public_path}/mnt"
    command = f"{nobody.python} -m fusenotify"
    script = (
        f"{command} mount {places} && ls {public_path}/mnt && "
        f"ls -d /tmp/fusenotify-{nobody.uid}/mnt-* && {command} unmount {public_path}/mnt"
    )
    done = nobody.run_with_fuse("unshare", "-Urm", "sh", "-ec", script)
    assert done.stderr == ""
    assert done.stdout.startswith(f"f\n/tmp/fusenotify-{nobody.uid}/mnt-")
    assert done.returncode == 0
    assert os.listdir(f"/tmp/fusenotify-{nobody.uid}") == []
    os.rmdir(f"/tmp/fusenotify-{nobody.uid}")


def test_another_mount_that_has_its_number_may_go_at_any_moment(
    mounting: Mounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounting() as mount:
        other = find(mount.mountpoint)
        assert other is not None
    looks = iter([other])
    monkeypatch.setattr(mountinfo, "mount_with_id", lambda _: next(looks, None))
    take_away(mountinfo.MountId(other.id, 1), lazy=True)


FORKS = """
import os, signal, sys
import fusenotify

with fusenotify.mounted(*sys.argv[1:]) as mount:
    if not os.fork():
        sys.exit()  # it leaves the block, too
    os.wait()
    assert os.path.ismount(mount.mountpoint)
    if not (child := os.fork()):
        signal.pause()
    print(mount.pid, child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_of_fork_neither_ends_a_mount_nor_keeps_it(tmp_path: Path) -> None:
    for name in ("source", "mnt"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", FORKS, *map(str, (tmp_path / "source", tmp_path / "mnt"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=modules()) as program:
        assert program.stdout is not None
        daemon, child = map(int, program.stdout.readline().split())
        try:
            assert ended(daemon)
            assert not os.path.ismount(tmp_path / "mnt")
            os.kill(child, 0)  # which is still there
        finally:
            os.kill(child, signal.SIGKILL)
