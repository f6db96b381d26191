# SPDX-License-Identifier: GPL-2.0-or-later
"""A signal that asks for the end is heard at every moment, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.command import FUSENOTIFY, environment, until

pytestmark = pytest.mark.mount

END_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Place:
    def __init__(self, path: Path) -> None:
        self.source, self.mountpoint, self.sockets = (
            path / name for name in ("source", "mnt", "sockets")
        )
        for directory in (self.source, self.mountpoint, self.sockets):
            directory.mkdir()
        self.command = [
            *(*FUSENOTIFY, "mount", "-f", f"--socket={self.sockets}/x.sock"),
            *(str(self.source), str(self.mountpoint)),
        ]

    def start(self, *before: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, *self.command], env=environment(), stderr=subprocess.PIPE, text=True
        )

    def assert_clean(self, daemon: subprocess.Popen[str]) -> None:
        _, said = daemon.communicate(timeout=30)
        assert not self.mountpoint.is_mount()
        assert os.listdir(self.sockets) == []
        assert (said, daemon.returncode) == ("", 0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def hears(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (caught,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught & 1 << number - 1)


@pytest.mark.parametrize("milliseconds", [0, 40, 80, 120, 160, 240])
def test_while_the_daemon_comes_up(place: Place, milliseconds: int) -> None:
    number = END_SIGNALS[milliseconds // 40 % 3]
    with place.start() as daemon:
        until(lambda: hears(daemon.pid, signal.SIGHUP), "it listens for signals")
        time.sleep(milliseconds / 1000)  # a moment, not a condition
        daemon.send_signal(number)
        place.assert_clean(daemon)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")
@pytest.mark.parametrize(
    ("call", "which", "ending"),
    [
        pytest.param("bind", 1, False, id="the socket is bound"),
        pytest.param("listen", 1, False, id="it listens"),
        pytest.param("unlinkat", 1, False, id="its lock is removed"),
        pytest.param("mount", 1, False, id="it is mounted"),
        pytest.param("umount2", 1, True, id="it is unmounted"),
        pytest.param("unlinkat", 2, True, id="the socket is removed"),
    ],
)
def test_at_the_call_by_which(place: Place, call: str, which: int, ending: bool) -> None:
    fault = [f"--inject={call}:signal=TERM:when={which}", "--signal=none", "--quiet=all"]
    with place.start("strace", "-f", "-o", "/dev/null", f"--trace={call}", *fault) as tracer:
        if ending:
            until(place.mountpoint.is_mount, "it is mounted")
            children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text()
            os.kill(int(children.split()[0]), signal.SIGTERM)
        place.assert_clean(tracer)


def test_signals_that_go_on_to_the_end_are_no_failure(place: Place) -> None:
    with place.start() as daemon:
        until(place.mountpoint.is_mount, "it is mounted")
        while daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
        place.assert_clean(daemon)


def test_nohup_keeps_a_daemon_in_front_from_hearing_sighup(place: Place) -> None:
    with place.start("nohup") as daemon:
        until(place.mountpoint.is_mount, "it is mounted")
        daemon.send_signal(signal.SIGHUP)
        os.stat(place.mountpoint)
        assert not hears(daemon.pid, signal.SIGHUP)
        daemon.send_signal(signal.SIGTERM)
        _, said = daemon.communicate(timeout=30)
        assert "fusenotify" not in said  # nohup has its say
        assert daemon.returncode == 0
