# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait -d`` goes on in the background, ``-s`` speaks to syslog(3)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.client import Client
from tests.cli.command import FUSENOTIFY, ended, environment, until
from tests.cli.compared import why_not_compared
from tests.conftest import Mounting

# With a /dev of its own, so that /dev/log is ours: runs a command to its end or for a second, and
# prints what it logged, a line each, and its status.
_LOGGED = """
import os, socket, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "none", "/dev"], check=True)
os.mknod("/dev/null", 0o20666, os.makedev(1, 3))
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
status = subprocess.run(sys.argv[1:]).returncode
log.settimeout(0)
try:
    while True:
        print(log.recv(65536).decode(errors="backslashreplace").strip())
except BlockingIOError:
    print("status", status)
"""


def run(*arguments: str, cwd: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a daemon lives on."""
    return subprocess.run(
        [*FUSENOTIFY, *arguments],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def the_waiter(client: Client) -> int:
    """Return the process of a mount's only client that watches something."""
    (pid,) = [each.pid for each in client.status().clients if each.devices]
    return pid


@pytest.mark.mount
def test_it_returns_when_its_watches_stand_and_goes_on(mounting: Mounting, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("before\n")
    with mounting() as mount:
        os.mkdir(f"{mount.mountpoint}/t")
        done = run("wait", "-d", "-o", "../out", "-e", "create", "t", cwd=mount.mountpoint)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        with mount.client() as client:
            pid = the_waiter(client)
            for name in ("first", "second"):
                os.mkdir(f"{mount.mountpoint}/t/{name}")
            lines = "before\nt/ CREATE,ISDIR first\nt/ CREATE,ISDIR second\n"
            until(lambda: out.read_text() == lines, "the events are printed")
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        for descriptor in (0, 2):
            assert os.readlink(f"/proc/{pid}/fd/{descriptor}") == os.devnull
    assert ended(pid)  # with the mount, which it does not keep


@pytest.mark.mount
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone"], "Couldn't watch gone: No such file or directory\n"),
        (["-r", "gone"], "Couldn't watch gone: No such file or directory\n"),
        (["--exclude", "(", "t"], "Error in `exclude' regular expression.\n"),
        (["@t"], "No files specified to watch!\n"),
    ],
    ids=" ".join,
)
def test_errors_are_reported_before_it_returns(
    mounted: Mounted, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "out").touch()
    done = run("wait", "-d", "-o", str(tmp_path / "out"), *arguments, cwd=mounted.mountpoint)
    assert (done.stdout, done.stderr, done.returncode) == ("", said, 1)


@pytest.mark.mount
def test_a_new_file_that_is_printed_to_is_its_users_alone(mounted: Mounted, tmp_path: Path) -> None:
    done = run("wait", "-t", "1", "-o", str(tmp_path / "out"), ".", cwd=mounted.mountpoint)
    assert done.returncode == 2
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


@pytest.mark.mount
@pytest.mark.skipif(bool(os.geteuid()), reason="only root has a /dev of its own")
@pytest.mark.skipif(bool(why_not_compared()), reason=why_not_compared())
@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "1", "t"],
        ["-r", "-t", "1", "t"],
        ["-q", "-t", "1", "t"],
        ["t", "gone"],
        ["-q", "-r", "gone\udcff"],
        ["-x"],
    ],
    ids=lambda each: ascii(" ".join(each)),
)
def test_the_log_has_the_messages_of_inotifywait(
    mounted: Mounted, tmp_path: Path, arguments: list[str]
) -> None:
    native = tmp_path / "native"
    for top in (native, Path(mounted.mountpoint)):
        (top / "t").mkdir(parents=True)

    def logged(program: list[str], cwd: str | Path) -> list[str]:
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-c", _LOGGED, *program, "-s", *arguments],
            cwd=cwd,
            env=environment(),
            capture_output=True,
            timeout=60,
            check=True,
        )
        text = (done.stdout + done.stderr).decode(errors="backslashreplace")
        # <daemon.info>, the time, the name.
        name = r"^(<\d+>).*? (?:fusenotify|inotifywait)\[\d+\]"
        text = re.sub(name, r"\1 NAME", text, flags=re.MULTILINE)
        return text.replace("fusenotify wait:", "inotifywait:").splitlines()

    theirs = logged(["inotifywait"], native)
    assert logged([*FUSENOTIFY, "wait"], mounted.mountpoint) == theirs


@pytest.mark.mount
@pytest.mark.skipif(bool(os.geteuid()), reason="only root has a /dev of its own")
def test_a_daemon_that_dies_is_said_to_the_log(mounted: Mounted) -> None:
    os.mkdir(f"{mounted.mountpoint}/t")
    with subprocess.Popen(
        [
            *("unshare", "--mount", sys.executable, "-c", _LOGGED),
            *(*FUSENOTIFY, "wait", "-s", "-m", "t"),
        ],
        cwd=mounted.mountpoint,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        with mounted.client() as client:
            until(lambda: any(each.devices for each in client.status().clients), "it watches")
        os.kill(mounted.pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    *_, said, status = out.splitlines()
    assert "]: fusenotify: " in said
    assert status == "status 1"
