# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that is killed at a bad moment leaves no program waiting."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import FUSENOTIFY, environment, until

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem"),
]

_MAKE_AND_REMOVE = """
import os, sys
while True:
    os.mkdir(sys.argv[1])
    os.rmdir(sys.argv[1])
"""
_MAKE_MANY = "import os\nfor number in range(100_000): os.mkdir(f'n{number}')"


def states(pid: int) -> list[str]:
    """Return the states of a process's threads, as in ps(1), the main thread first."""
    found = []
    for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(") ")[2][0])
    return found


def stopped_while_a_thread_waits_in_the_kernel(pid: int) -> bool:
    """Stop a process if only its main thread can be stopped; return whether that is so."""
    if "D" not in states(pid)[1:]:
        return False
    os.kill(pid, signal.SIGSTOP)
    for _ in range(100):
        if states(pid)[0] == "T":
            break
        os.sched_yield()
    if states(pid)[0] == "T" and "D" in states(pid)[1:]:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def unmount(mnt: Path) -> None:
    """Unmount what may be there, whoever waits for it."""
    for how in ("--force", "--lazy"):
        subprocess.run(["umount", how, mnt], check=False, stderr=subprocess.DEVNULL)


def test_killed_while_the_kernel_waits_for_a_directory_to_forget_a_name(tmp_path: Path) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    for directory in (source / "d", mnt):
        directory.mkdir(parents=True)
    command = [*FUSENOTIFY, "mount", "-f", "--behind", "all", str(source), str(mnt)]
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(subprocess.Popen(command, env=environment()))
        stack.callback(daemon.kill)
        until(lambda: os.path.ismount(mnt), "it is mounted")

        def start(*program: str, directory: Path) -> subprocess.Popen[bytes]:
            started = subprocess.Popen(
                [sys.executable, "-c", *program], cwd=directory, stderr=subprocess.DEVNULL
            )
            stack.callback(started.wait)
            stack.callback(started.kill)
            return started

        programs = [start(_MAKE_AND_REMOVE, f"m{n}", directory=mnt / "d") for n in range(3)]
        start(_MAKE_MANY, directory=source / "d")
        stack.callback(unmount, mnt)
        until(
            lambda: stopped_while_a_thread_waits_in_the_kernel(daemon.pid),
            "a thread of the daemon waits for a lock that a program holds",
        )
        daemon.kill()
        until(lambda: all(program.poll() for program in programs), "the programs get errors")
        until(lambda: daemon.poll() is not None, "the daemon ends")
        with pytest.raises(OSError, match="Transport endpoint is not connected"):
            os.listdir(mnt)
