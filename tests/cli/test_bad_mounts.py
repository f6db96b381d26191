# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify mount`` refuses, in which words and with which exit status."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fusenotify.mounting.checks import packages_to_install
from tests.cli.command import FUSENOTIFY, environment, fusenotify
from tests.conftest import REPOSITORY, Mounting, User


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A source, a mount point, and things that can be neither."""
    for directory in ("source/inside", "mnt", "empty", "full"):
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    (tmp_path / "full/thing").touch()
    (tmp_path / "file").touch()
    (tmp_path / "alias").symlink_to("source")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param("gone mnt", "{}/gone: SOURCE does not exist", id="SOURCE is missing"),
        pytest.param("source gone", "{}/gone: MNT does not exist", id="MNT is missing"),
        pytest.param("gone", "{}/gone: SOURCE does not exist", id="one path, and it is missing"),
        pytest.param("file mnt", "{}/file: SOURCE is not a directory", id="SOURCE is a file"),
        pytest.param("source file", "{}/file: MNT is not a directory", id="MNT is a file"),
        pytest.param("file/x mnt", "{}/file/x: Not a directory", id="SOURCE is below a file"),
        pytest.param(
            "source full",
            "{0}/full: MNT is not empty, and the mount would hide what is in it; "
            "-o nonempty mounts nevertheless",
            id="MNT is not empty",
        ),
        pytest.param(
            "source source/inside",
            "{0}/source/inside: MNT is inside SOURCE ({0}/source); the mount would show itself",
            id="MNT is inside SOURCE",
        ),
        pytest.param(
            "source alias/inside",
            "{0}/source/inside: MNT is inside SOURCE ({0}/source); the mount would show itself",
            id="MNT is inside SOURCE by way of a link",
        ),
        pytest.param(
            "source/inside source",
            "{0}/source/inside: SOURCE is inside MNT ({0}/source); the mount would hide it",
            id="SOURCE is inside MNT",
        ),
        pytest.param(
            "-o nonempty source/inside source",
            "{0}/source/inside: SOURCE is inside MNT ({0}/source); the mount would hide it",
            id="nonempty does not allow SOURCE inside MNT",
        ),
    ],
)
@pytest.mark.parametrize("front", [[], ["-f"]], ids=["in the background", "in front"])
def test_refuses_directories(
    arguments: str, message: str, front: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    done = fusenotify("mount", *front, *shlex.split(arguments))
    assert done.stderr == f"fusenotify: {message.format(place)}\n"
    assert done.returncode == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param("", "the following arguments are required: SOURCE", id="nothing to mount"),
        pytest.param("a b c", "unrecognized arguments: c", id="three paths"),
        pytest.param("--frobnicate a b", "unrecognized arguments: --frobnicate", id="an option"),
        pytest.param("-o frob a b", "argument -o: unknown option 'frob';", id="a FUSE option"),
        pytest.param(
            "-o ro,max_frob=3 a b", "unknown option 'max_frob=3';", id="one of two options"
        ),
        pytest.param("-o context a b", "unknown option 'context';", id="no value"),
        pytest.param("-o ro=1 a b", "unknown option 'ro=1';", id="a value too much"),
        pytest.param("--semantics linux-5 a b", "invalid choice: 'linux-5'", id="semantics"),
        *(
            pytest.param(
                f"--max-{limit}={value} a b",
                f"argument --max-{limit}: '{value}' is not a whole number of 0 or more",
                id=f"{limit} of {value or 'nothing'}",
            )
            for limit in ("queued-events", "user-watches", "user-instances")
            for value in ("-1", "many", "1.5", "")
        ),
        pytest.param(
            "--max-queued-events 2147483648 a b",
            "'2147483648' is more than 2147483647",
            id="a limit beyond an int",
        ),
        pytest.param(
            "--max-user-watches 9" + "0" * 5000 + " a b", "is more than 2147483647", id="a huge one"
        ),
    ],
)
def test_refuses_usage(arguments: str, message: str) -> None:
    done = fusenotify("mount", *shlex.split(arguments))
    assert message in done.stderr
    assert done.stderr.startswith("usage: fusenotify mount")
    assert done.returncode == 2


def test_without_pyfuse3_it_says_what_to_install(place: Path) -> None:
    # -S: no site-packages, so that nothing but the standard library is there.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "fusenotify", "mount", "-f", place / "source", place / "mnt"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "pip install 'fusenotify[mount]'" in done.stderr
    assert "first install fuse3 " in done.stderr or "first install on Debian fuse3 " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("os_release", "packages"),
    [
        ({"ID": "debian"}, "fuse3 libfuse3-dev pkg-config gcc python3-dev"),
        (
            {"ID": "mint", "ID_LIKE": "ubuntu debian"},
            "fuse3 libfuse3-dev pkg-config gcc python3-dev",
        ),
        ({"ID": "rocky", "ID_LIKE": "rhel fedora"}, "fuse3 fuse3-devel pkgconf gcc python3-devel"),
        ({"ID": "arch"}, "fuse3 pkgconf gcc"),
        ({"ID": "alpine"}, "fuse3 fuse3-dev pkgconf gcc musl-dev python3-dev"),
    ],
)
def test_packages_are_named_as_the_distribution_names_them(
    os_release: dict[str, str], packages: str
) -> None:
    assert packages_to_install(os_release) == packages


@pytest.mark.parametrize("os_release", [{}, {"ID": "plan9"}])
def test_for_an_unknown_distribution_all_names_are_given(os_release: dict[str, str]) -> None:
    said = packages_to_install(os_release)
    assert said.startswith("on Debian fuse3 libfuse3-dev pkg-config gcc python3-dev, on Fedora ")
    assert ", on Arch fuse3 pkgconf gcc, on Alpine fuse3 fuse3-dev " in said


def test_without_dev_fuse_it_says_how_to_get_it(place: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can hide /dev/fuse, in a mount namespace of its own")
    hidden = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"'
    command = [*FUSENOTIFY, "mount", "-f", str(place / "source"), str(place / "mnt")]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden, "sh", *command],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith("fusenotify: /dev/fuse does not exist: load the module")
    assert done.returncode == 1


def user_place(public_path: Path, user: User) -> list[Path]:
    """Return a source and a mount point that belong to a user."""
    places = [public_path / "source", public_path / "mnt"]
    for place in places:
        place.mkdir()
        os.chown(place, user.uid, user.uid)
    return places


def test_without_fusermount3_a_user_is_told_the_package(public_path: Path, nobody: User) -> None:
    source, mountpoint = user_place(public_path, nobody)
    done = nobody.run(
        *(nobody.python, "-m", "fusenotify", "mount", str(source), str(mountpoint)),
        env={"PATH": "/nonexistent"},
    )
    assert done.stderr == "fusenotify: fusermount3 is missing: install the package fuse3\n"
    assert done.returncode == 1


def test_a_user_who_may_not_open_dev_fuse_gets_a_message(public_path: Path, nobody: User) -> None:
    if os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        pytest.skip("/dev/fuse is open to all here")
    places = user_place(public_path, nobody)
    done = nobody.run(nobody.python, "-m", "fusenotify", "mount", *places)
    assert done.stderr == (
        "fusenotify: /dev/fuse cannot be opened (Permission denied): root may allow it to users "
        "(chmod 666 /dev/fuse) or to the container (--device /dev/fuse)\n"
    )
    assert done.returncode == 1


def test_allow_other_needs_leave_for_users(public_path: Path, nobody: User) -> None:
    with open("/etc/fuse.conf") as lines:
        if any(line.strip() == "user_allow_other" for line in lines):
            pytest.skip("/etc/fuse.conf gives every user leave")
    places = user_place(public_path, nobody)
    command = [nobody.python, "-m", "fusenotify", "mount", "-o", "allow_other"]
    done = nobody.run_with_fuse(*command, *places)
    assert done.stderr == (
        "fusenotify: -o allow_other needs the line user_allow_other in /etc/fuse.conf\n"
    )
    assert done.returncode == 1


def test_a_socket_directory_that_somebody_else_prepared_is_refused(
    public_path: Path, nobody: User
) -> None:
    trap = Path(f"/tmp/fusenotify-{nobody.uid}")
    if trap.exists():
        pytest.skip(f"{trap} exists already")
    trap.mkdir(mode=0o777)
    try:
        places = user_place(public_path, nobody)
        done = nobody.run_with_fuse(nobody.python, "-m", "fusenotify", "mount", *places)
    finally:
        shutil.rmtree(trap)
    assert done.stderr == (
        f"fusenotify: {trap}: not a directory of yours alone; name another place with --socket\n"
    )
    assert done.returncode == 1


@pytest.mark.mount
def test_a_live_mount_is_not_covered_by_another(mounting: Mounting) -> None:
    with mounting() as mount:
        for source in (mount.source, mount.mountpoint):
            done = fusenotify("mount", source, mount.mountpoint)
            assert done.stderr == (
                f"fusenotify: {mount.mountpoint}: already mounted by fusenotify; "
                "see 'fusenotify status'\n"
            )
            assert done.returncode == 1


@pytest.mark.mount
def test_a_socket_that_a_live_daemon_has_is_refused(mounting: Mounting, place: Path) -> None:
    with mounting() as mount:
        done = fusenotify("mount", "--socket", mount.socket, place / "source", place / "empty")
        assert mount.socket in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.returncode == 1
        assert not os.path.ismount(place / "empty")
        mount.client().close()  # the first one still has it


@pytest.mark.mount
def test_a_socket_that_a_dead_daemon_left_is_taken_over(mounting: Mounting, tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    with mounting(socket=path) as mount:
        mount.client().close()
    assert not path.exists()


@pytest.mark.mount
def test_a_socket_path_too_long_for_a_socket_is_refused(place: Path) -> None:
    path = place / ("x" * 100)
    done = fusenotify("mount", "--socket", path, place / "source", place / "mnt")
    assert str(path) in done.stderr
    assert "107" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1
    assert not os.path.ismount(place / "mnt")
