# SPDX-License-Identifier: GPL-2.0-or-later
"""Real daemons: how they start, what they show, and how they end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted, MountFailed
from fusenotify.client import Client, ConnectionLost
from fusenotify.events import Event, unpack
from fusenotify.masks import IN_ALL_EVENTS, IN_CREATE, IN_IGNORED, IN_ISDIR, IN_UNMOUNT
from fusenotify.mounting.settings import default_sockets
from tests.cli.command import FUSENOTIFY, ended, environment, fusenotify
from tests.conftest import Mounting, User

pytestmark = pytest.mark.mount


def socket_of(mountpoint: str | Path) -> str:
    return os.fsdecode(os.getxattr(mountpoint, "user.fusenotify.socket"))


def daemon_of(mountpoint: str | Path) -> int:
    with Client(socket_of(mountpoint)) as client:
        return client.status().pid


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    source, mountpoint = tmp_path / "source", tmp_path / "mnt"
    source.mkdir()
    mountpoint.mkdir()
    (source / "hello").write_text("world")
    return source, mountpoint


def test_it_goes_to_the_background_once_the_mount_answers(places: tuple[Path, Path]) -> None:
    source, mountpoint = places
    done = fusenotify("mount", source, mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (mountpoint / "hello").read_text() == "world"
    pid, socket = daemon_of(mountpoint), socket_of(mountpoint)
    assert os.getsid(pid) == pid != os.getsid(0)
    # Its descriptors, which are named shortest from there; no directory of the caller.
    assert os.readlink(f"/proc/{pid}/cwd") == f"/proc/{pid}/fd"
    assert os.stat(socket).st_mode & 0o777 == 0o600

    done = fusenotify("unmount", mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # unmount has waited for it.
    assert ended(pid, seconds=0)
    assert not os.path.exists(socket)
    assert os.listdir(mountpoint) == []


def test_proc_mounts_shows_source_and_type(mounted: Mounted) -> None:
    with open("/proc/mounts") as lines:
        assert any(
            line.startswith(f"{mounted.source} {mounted.mountpoint} fuse.fusenotify ")
            for line in lines
        )


@pytest.mark.parametrize("twice", [False, True], ids=["one path", "the same path twice"])
def test_a_directory_can_be_mounted_in_place(places: tuple[Path, Path], twice: bool) -> None:
    directory, _ = places
    with package.mounted(directory, directory if twice else None) as mount:
        assert os.path.ismount(directory)
        assert (directory / "hello").read_text() == "world"
        with mount.client() as client:
            device = client.init()
            device.add_watch("/", IN_CREATE)
            (directory / "new").mkdir()
            events = list(unpack(device.read(4096)))
        assert [(event.mask, event.name) for event in events] == [(IN_CREATE | IN_ISDIR, b"new")]
    assert not os.path.ismount(directory)
    assert sorted(os.listdir(directory)) == ["hello", "new"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_unmounts_and_clients_get_the_end(name: str, mounting: Mounting) -> None:
    with mounting() as mount, mount.client() as client:
        device = client.init()
        wd = device.add_watch("/", IN_ALL_EVENTS)
        os.kill(mount.pid, signal.Signals[name])
        events: list[Event] = []
        while not events or events[-1].mask != IN_IGNORED:
            events += unpack(device.read(4096))
        assert [(event.wd, event.mask) for event in events] == [
            (wd, IN_UNMOUNT | IN_ISDIR),
            (wd, IN_IGNORED),
        ]
        with pytest.raises(ConnectionLost):
            device.read(4096)
        assert ended(mount.pid)
        assert not os.path.ismount(mount.mountpoint)
        assert not os.path.exists(mount.socket)


def test_a_signal_does_not_wait_long_for_open_files(places: tuple[Path, Path]) -> None:
    with package.mounted(*places) as mount:
        descriptor = os.open(places[1] / "hello", os.O_RDONLY)
        os.kill(mount.pid, signal.SIGTERM)
        assert ended(mount.pid)
        for use in (lambda: os.read(descriptor, 1), lambda: os.close(descriptor)):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - looked at below
                use()
            assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def test_sigpipe_is_ignored(mounted: Mounted) -> None:
    os.kill(mounted.pid, signal.SIGPIPE)
    os.mkdir(f"{mounted.mountpoint}/still")
    with mounted.client() as client:
        assert client.status().pid == mounted.pid


def test_umount_by_others_ends_the_daemon(mounting: Mounting) -> None:
    with mounting() as mount:
        subprocess.run(["umount", mount.mountpoint], check=True)
        assert ended(mount.pid)
        assert not os.path.exists(mount.socket)


def killed(places: tuple[Path, Path]) -> Path:
    """Return a mount point whose daemon was killed."""
    source, mountpoint = places
    assert fusenotify("mount", source, mountpoint).returncode == 0
    pid = daemon_of(mountpoint)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is looked at below
        os.statvfs(mountpoint)
    assert caught.value.errno == errno.ENOTCONN
    return mountpoint


def test_unmount_cleans_up_after_a_killed_daemon(places: tuple[Path, Path]) -> None:
    mountpoint = killed(places)
    socket = default_sockets(str(mountpoint))[0]
    assert os.path.exists(socket)
    done = fusenotify("unmount", mountpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(mountpoint) == []
    assert not os.path.exists(socket)


def test_the_next_mount_cleans_up_after_a_killed_daemon(places: tuple[Path, Path]) -> None:
    mountpoint = killed(places)
    done = fusenotify("mount", places[0], mountpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(mountpoint) == ["hello"]
    assert fusenotify("unmount", mountpoint).returncode == 0
    assert os.listdir(mountpoint) == []


def test_the_next_mount_in_place_cleans_up_after_a_killed_daemon(
    places: tuple[Path, Path],
) -> None:
    directory = killed((places[0], places[0]))
    with package.mounted(directory):
        assert os.listdir(directory) == ["hello"]
    assert not os.path.ismount(directory)


def test_a_client_of_a_killed_daemon_gets_the_end_at_once(mounting: Mounting) -> None:
    with mounting() as mount, mount.client() as client:
        device = client.init()
        os.kill(mount.pid, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            device.read(4096)


def test_nonempty_mounts_over_what_is_there(places: tuple[Path, Path]) -> None:
    source, mountpoint = places
    (mountpoint / "hidden").touch()
    with package.mounted(source, mountpoint, options=["nonempty"]):
        assert os.listdir(mountpoint) == ["hello"]
    assert os.listdir(mountpoint) == ["hidden"]


def test_fuse_options_reach_the_kernel(places: tuple[Path, Path]) -> None:
    with (
        package.mounted(*places, options=["ro"]),
        pytest.raises(OSError, match="Read-only") as caught,
    ):
        (places[1] / "new").touch()
    assert caught.value.errno == errno.EROFS


def test_settings_reach_the_engine(mounting: Mounting, tmp_path: Path) -> None:
    with (
        mounting(
            socket=tmp_path / "own.sock",
            semantics="linux-2.6.18",
            max_queued_events=3,
            max_user_watches=2,
            max_user_instances=1,
        ) as mount,
        mount.client() as client,
    ):
        assert mount.socket == str(tmp_path / "own.sock") == socket_of(mount.mountpoint)
        status = client.status()
        assert status.semantics == "linux-2.6.18"
        assert status.limits.max_queued_events == 3
        assert status.limits.max_user_watches == 2
        client.init()
        with pytest.raises(OSError, match="max_user_instances = 1") as caught:
            client.init()
        assert caught.value.errno == errno.EMFILE


def test_mounted_fails_with_the_daemons_words(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(MountFailed, match=f"^{gone}: SOURCE does not exist$"):
        package.mounted(gone, tmp_path).__enter__()


def test_mounted_unmounts_after_an_exception(mounting: Mounting) -> None:
    with pytest.raises(ZeroDivisionError), mounting() as mount:
        raise ZeroDivisionError
    assert ended(mount.pid, seconds=0)
    assert not os.path.ismount(mount.mountpoint)


def test_mounted_cleans_up_after_a_killed_daemon(mounting: Mounting) -> None:
    with mounting() as mount:
        os.kill(mount.pid, signal.SIGKILL)
    assert os.listdir(mount.mountpoint) == []
    assert not os.path.exists(mount.socket)


def test_mounted_ends_with_a_program_that_is_killed(places: tuple[Path, Path]) -> None:
    program = (
        "import sys, fusenotify\n"
        "with fusenotify.mounted(*sys.argv[1:]) as mount:\n"
        "    print(mount.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *places],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    assert ended(pid)
    assert not os.path.ismount(places[1])


def test_the_background_daemon_lets_go_of_its_callers_output(places: tuple[Path, Path]) -> None:
    # As in $(fusenotify mount ...): end of file comes while the daemon goes on.
    with subprocess.Popen(
        [*FUSENOTIFY, "mount", *places],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert fusenotify("unmount", places[1]).returncode == 0


def test_an_ordinary_user_mounts_watches_and_unmounts(public_path: Path, nobody: User) -> None:
    source, mountpoint = public_path / "source", public_path / "mnt"
    for place in source, mountpoint:
        place.mkdir()
        os.chown(place, nobody.uid, nobody.uid)
    program = (
        "import os, sys, fusenotify\n"
        "from fusenotify.client import Inotify\n"
        "from fusenotify.masks import IN_CREATE\n"
        "with fusenotify.mounted(*sys.argv[1:]) as mount, Inotify() as inotify:\n"
        "    inotify.add_watch(mount.mountpoint, IN_CREATE)\n"
        "    os.mkdir(mount.mountpoint + '/new')\n"
        "    print(mount.socket, *[event.name for event in inotify.read()])\n"
    )
    done = nobody.run_with_fuse(nobody.python, "-c", program, source, mountpoint)
    assert done.stderr == ""
    assert done.stdout.startswith(f"/tmp/fusenotify-{nobody.uid}/mnt-")
    assert done.stdout.endswith(".sock new\n")
    assert (source / "new").stat().st_uid == nobody.uid
    os.rmdir(f"/tmp/fusenotify-{nobody.uid}")


@pytest.mark.parametrize("allowed", [False, True], ids=["by default", "with allow_other"])
def test_other_users_may_connect_only_with_allow_other(
    allowed: bool, public_path: Path, nobody: User
) -> None:
    source, mountpoint = public_path / "source", public_path / "mnt"
    source.mkdir(mode=0o755)
    mountpoint.mkdir()
    program = (
        "import sys\n"
        "from fusenotify.client import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        "    print(client.init().add_watch('/', 0x100))\n"
    )
    with package.mounted(source, mountpoint, options=["allow_other"] if allowed else []) as mount:
        done = nobody.run(nobody.python, "-c", program, mount.socket)
    assert (done.stdout == "1\n") is allowed
    assert ("PermissionError" in done.stderr) is not allowed
