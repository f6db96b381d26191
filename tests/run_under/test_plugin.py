# SPDX-License-Identifier: GPL-2.0-or-later
"""The fusenotify_run fixture, on two public observers as they are, with a queue of 4."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fusenotify.testing import SupervisedProgram, TemporaryMount

pytestmark = pytest.mark.mount

WATCHER = Path(__file__).parent / "watchers" / "python_watch.py"
FILES = 300
Run = Callable[..., SupervisedProgram]


def stormed(run: Run, library: str, directory: Path) -> SupervisedProgram:
    """Return a program that watches a directory, when files were created and it printed the last.

    While they are created it is stopped, so that its queue overflows however fast it is.
    """
    program = run([sys.executable, WATCHER, library, directory], max_queued_events=4)
    program.wait_for("^ready$")
    (watcher,) = [child for one in _children(program.process.pid) for child in _children(one)]
    os.kill(watcher, signal.SIGSTOP)
    for number in range(FILES):
        (directory / f"file-{number}").touch()
    os.kill(watcher, signal.SIGCONT)
    program.settle()
    return program


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def test_watchdog_tells_of_an_overflow(
    fusenotify_run: Run, fusenotify_mount: TemporaryMount
) -> None:
    program = stormed(fusenotify_run, "watchdog", fusenotify_mount.path)
    assert program.overflowed()
    program.wait_for("queue overflowed")


def test_watchfiles_loses_files_silently(
    fusenotify_run: Run, fusenotify_mount: TemporaryMount
) -> None:
    program = stormed(fusenotify_run, "watchfiles", fusenotify_mount.path)
    assert program.overflowed()
    assert not any("verflow" in line for line in program.lines)
    assert len([line for line in program.lines if "file-" in line]) < FILES
    (fusenotify_mount.path / "after").touch()
    program.wait_for("added .*/after$")  # it goes on


def test_what_a_program_did_is_recorded(
    fusenotify_run: Run, fusenotify_mount: TemporaryMount
) -> None:
    directory = fusenotify_mount.path
    program = fusenotify_run([sys.executable, WATCHER, "inotify_simple", directory])
    program.wait_for("^ready$")
    (directory / "a").mkdir()
    assert program.wait_for(r"1 CREATE\|ISDIR (.*)")[1] == "a"
    calls = {entry["call"]: entry for entry in program.record() if "call" in entry}
    assert calls["inotify_add_watch"]["path"] == str(directory)
    assert calls["inotify_add_watch"]["result"] == 1
    assert program.events()[0] == {
        "wd": 1,
        "mask": "IN_CREATE|IN_ISDIR",
        "cookie": 0,
        "name": "a",
    }
    assert program.end() == -15


def test_what_a_program_never_printed_fails_the_test(fusenotify_run: Run) -> None:
    program = fusenotify_run(["sh", "-c", "echo one; echo two"])
    program.wait_for("one")
    with pytest.raises(AssertionError, match="did not print 'one' before it ended"):
        program.wait_for("one")
    assert program.wait() == 0
