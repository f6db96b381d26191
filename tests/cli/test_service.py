# SPDX-License-Identifier: GPL-2.0-or-later
"""The service of systemd: what the daemon tells, and what mount-scripts/install puts where."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify.client import Inotify
from fusenotify.mounting.settings import default_sockets
from tests.cli.command import FUSENOTIFY, environment, fusenotify, until
from tests.conftest import REPOSITORY

SCRIPTS = REPOSITORY / "mount-scripts"
UNIT = SCRIPTS / "fusenotify@.service"


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("source", "mnt"):
        (tmp_path / name).mkdir()
    return tmp_path / "source", tmp_path / "mnt"


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        manager.settimeout(20)
        yield manager


def told(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().split("\n"))


@contextlib.contextmanager
def serving(address: str, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [*FUSENOTIFY, "mount", "-f", *map(str, arguments)]
    with subprocess.Popen(command, env=environment() | {"NOTIFY_SOCKET": address}) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.mount
@pytest.mark.parametrize(
    ("kind", "end"), [("a path", "a signal"), ("an abstract address", "unmount")]
)
def test_it_tells_when_it_is_ready_what_it_serves_and_when_it_ends(
    kind: str, end: str, places: tuple[Path, Path], tmp_path: Path
) -> None:
    source, mnt = places
    address = str(tmp_path / "notify") if kind == "a path" else f"@fusenotify-test-{os.getpid()}"
    with listening(address) as manager, serving(address, source, mnt) as process:
        assert told(manager) == {
            "READY": "1",
            "MAINPID": str(process.pid),
            "STATUS": f"{source} on {mnt}; clients connect at {default_sockets(str(mnt))[0]}",
        }
        assert os.path.ismount(mnt)  # ready is ready
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            assert b"NOTIFY_SOCKET" in file.read()  # as it was started
        if end == "a signal":
            process.send_signal(signal.SIGTERM)
        else:
            assert fusenotify("unmount", mnt).returncode == 0
        assert told(manager) == {"STOPPING": "1", "STATUS": "unmounting"}
        assert process.wait(20) == 0
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


@pytest.mark.mount
def test_a_status_is_one_line_of_utf8_whatever_names_are_in_it(tmp_path: Path) -> None:
    source, mnt = tmp_path / "s\nREADY=0", tmp_path / "m\udcff"
    source.mkdir()
    mnt.mkdir()
    address = str(tmp_path / "notify")
    with listening(address) as manager, serving(address, source, mnt):
        said = told(manager)
    assert said["READY"] == "1"
    assert said["STATUS"].startswith(rf"{tmp_path}/s\nREADY=0 on {tmp_path}/m\xff; clients")


@pytest.mark.mount
@pytest.mark.parametrize("address", ["/nobody/listens", "vsock:2:1234"])
def test_without_a_manager_to_tell_it_serves(address: str, places: tuple[Path, Path]) -> None:
    source, mnt = places
    with serving(address, source, mnt):
        until(lambda: os.path.ismount(mnt), "it is mounted")


@pytest.mark.mount
def test_a_daemon_in_the_background_is_not_its_callers_service(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address) as manager:
        assert fusenotify("mount", *places).returncode == 0
        assert fusenotify("unmount", places[1]).returncode == 0
        with package.mounted(*places):
            pass
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        env={"PATH": os.environ["PATH"], **env},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def files_below(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): file.read_text()
        for file in directory.rglob("*")
        if file.is_file()
    }


def test_install_puts_three_files_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    root = str(tmp_path)
    program = "/opt/my programs/fusenotify"
    for _ in range(2):
        done = run(SCRIPTS / "install", "--prefix=/usr", "--program", program, DESTDIR=root)
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("is up to date") == 3
    files = files_below(tmp_path)
    assert set(files) == {
        "usr/sbin/mount.fusenotify",
        "usr/sbin/mount.fuse.fusenotify",
        "usr/lib/systemd/system/fusenotify@.service",
    }
    assert os.stat(tmp_path / "usr/sbin/mount.fusenotify").st_mode & 0o777 == 0o755
    assert f"\nprogram='{program}'\n" in files["usr/sbin/mount.fusenotify"]
    unit = files["usr/lib/systemd/system/fusenotify@.service"]
    assert f'\nExecStart="{program}" mount -f ' in unit
    assert "/usr/local" not in unit
    assert root not in "".join(files.values())

    # Once more, with another program: all of it follows.
    done = run(SCRIPTS / "install", "--prefix=/usr", DESTDIR=root)
    assert done.stdout.count("installed ") == 3
    assert "/opt" not in "".join(files_below(tmp_path).values())

    for _ in range(2):
        done = run(SCRIPTS / "uninstall", "--prefix=/usr", DESTDIR=root)
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("does not exist") == 3
    assert list(tmp_path.iterdir()) == []


def test_all_users_can_read_what_is_installed_whatever_the_umask(tmp_path: Path) -> None:
    with_umask = 'umask 077; exec "$0" "$@"'
    run("sh", "-c", with_umask, SCRIPTS / "install", "--prefix=/a b", DESTDIR=str(tmp_path))
    modes = {path: os.stat(path).st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o755}
    assert len(modes) > 5


def test_uninstall_removes_what_an_installation_that_was_killed_left(tmp_path: Path) -> None:
    left = tmp_path / "usr/sbin/mount.fusenotify.new"
    for text in ("", "#!/bin/sh\n# Put here by fusenotify's mount-scripts/install\n"):
        left.parent.mkdir(parents=True)
        left.write_text(text)
        run(SCRIPTS / "uninstall", DESTDIR=str(tmp_path))
        assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_neither_replaced_nor_removed(tmp_path: Path) -> None:
    theirs = tmp_path / "sbin" / "mount.fusenotify"
    theirs.parent.mkdir()
    theirs.write_text("a distribution's\n")
    done = run(SCRIPTS / "install", DESTDIR=str(tmp_path))
    assert done.returncode == 1
    assert f"{theirs}: this file is not from mount-scripts/install" in done.stderr
    done = run(SCRIPTS / "uninstall", DESTDIR=str(tmp_path))
    assert f"{theirs} is not from mount-scripts/install, and stays" in done.stdout
    assert files_below(tmp_path) == {"sbin/mount.fusenotify": "a distribution's\n"}


def test_uninstall_lists_the_users_of_the_removed_files(tmp_path: Path) -> None:
    tmp_path /= "a & b|c"
    for directory in ("etc/systemd/system/multi-user.target.wants", "usr/bin"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "sbin").symlink_to("usr/bin")
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants/fusenotify@srv.service"
    wants.symlink_to("/nowhere")
    (tmp_path / "etc/fstab").write_text("# a fusenotify b\n/srv /srv  fusenotify defaults\n")
    run(SCRIPTS / "install", DESTDIR=str(tmp_path))
    assert (tmp_path / "usr/bin/mount.fusenotify").exists()
    done = run(SCRIPTS / "uninstall", DESTDIR=str(tmp_path))
    notes = [line for line in done.stdout.splitlines() if line.startswith("note")]
    assert notes == [
        f"note: still in {tmp_path}/etc/fstab, line 2:/srv /srv  fusenotify defaults",
        f"note: this unit of systemd still exists: {wants}",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frob"], "unknown argument '--frob'"),
        (["--prefix"], "--prefix: a path is missing"),
        (["--prefix", "usr"], "--prefix usr: not an absolute path"),
        (
            ["--program", "/nowhere/fusenotify"],
            "/nowhere/fusenotify: no such program; first install",
        ),
        (["--program", "/a%b"], "/a%b: systemd does not accept a path with such"),
    ],
)
def test_install_refuses_impossible_arguments(arguments: list[str], message: str) -> None:
    done = run(SCRIPTS / "install", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"install: {message}")
    assert done.stdout == ""


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing: install the Debian package systemd")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/fusenotify", "/bin/true"))
    done = run(analyze, "verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Each of these gives the service a mount namespace of its own, in which the mount would stay.
OWN_NAMESPACE = re.compile(
    r"^(Private(Tmp|Devices|Mounts|Users)|Protect(System|Home|Proc|Kernel\w+|ControlGroups)|"
    r"ProcSubset|Read\w+Paths|InaccessiblePaths|NoExecPaths|ExecPaths|Bind\w*Paths|"
    r"TemporaryFileSystem|Root\w+|DynamicUser|MountFlags)=",
    re.MULTILINE,
)


def test_the_mount_is_not_hidden_in_the_service() -> None:
    assert OWN_NAMESPACE.search("a\nPrivateTmp=yes")
    assert not OWN_NAMESPACE.search(UNIT.read_text())


def allowed_calls() -> set[str]:
    """Return the system calls that the unit allows."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing: install the Debian package systemd")
    (words,) = re.findall(r"^SystemCallFilter=(.*)", UNIT.read_text(), re.MULTILINE)
    allowed, waiting = set(), words.split()
    while waiting:
        word = waiting.pop()
        if word.startswith("@"):
            shown = run(analyze, "syscall-filter", word)
            assert shown.returncode == 0, shown.stderr
            lines = [line.strip() for line in shown.stdout.splitlines()[1:]]
            waiting += [line for line in lines if line and not line.startswith("#")]
        else:
            allowed.add(word)
    return allowed


# What programs do on both sides of a mount.
_USE = """
for place in "$1" "$2"; do
    cd "$place"
    mkdir -p d/e
    echo x >f
    ln f g
    ln -s f l
    mv d/e h
    mkfifo p
    chmod 600 f
    touch f
    truncate -s 5 f
    cat f >/dev/null
    cp --preserve=all f i
    mv i g
    flock f true
    sync f
    stat --file-system . >/dev/null
    cd /
    rm -r "$place"/*
done
"""


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="the service is root's")
def test_the_unit_allows_the_system_calls_of_the_daemon(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    allowed = allowed_calls()
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is missing: install the Debian package of this name")
    source, mnt = places
    trace = tmp_path / "trace"
    command: list[str | Path] = [
        strace,
        "-f",
        "-qq",
        "-o",
        trace,
        *FUSENOTIFY,
        "mount",
        "-f",
        "--behind",
        "all",
    ]
    with subprocess.Popen([*command, source, mnt], env=environment()) as daemon:
        try:
            until(lambda: os.path.ismount(mnt), "it is mounted")
            with Inotify() as inotify:
                inotify.add_watch(str(mnt), "ALL_EVENTS", tree=True)
                run("sh", "-ec", _USE, "sh", source, mnt)
                inotify.sync()
            assert fusenotify("unmount", mnt).returncode == 0
        except BaseException:
            daemon.kill()
            subprocess.run(["fusermount3", "-uz", mnt], check=False)
            raise
    calls = set(
        re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", trace.read_text(), re.MULTILINE)
    )
    assert {"fanotify_mark", "open_by_handle_at", "mount"} <= calls
    assert calls - allowed == set()
