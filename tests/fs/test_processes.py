# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose threads are, and what processes run, as /proc tells."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from fusenotify.fs.processes import Processes, kept_commands

GONE = 2**22 + 1  # more than there can be


@pytest.fixture(params=[64, 1024])
def processes(request: pytest.FixtureRequest) -> Iterator[Processes]:
    """With many descriptors, and with so few that none is kept."""
    before = len(os.listdir("/proc/self/fd"))
    processes = Processes(request.param)
    yield processes
    processes.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_thread_is_its_processs(processes: Processes) -> None:
    seen = []
    thread = threading.Thread(
        target=lambda: seen.append(
            (threading.get_native_id(), processes.process_of(threading.get_native_id()))
        )
    )
    thread.start()
    thread.join()
    ((number, process),) = seen
    assert process == os.getpid() != number


def test_a_process_that_has_ended_is_not_known(processes: Processes) -> None:
    assert (processes.process_of(GONE), processes.command_of(GONE)) == (0, None)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        cat.stdin.write(b"said\n")
        cat.stdin.flush()
        assert cat.stdout.readline() == b"said\n"  # it runs
        assert processes.command_of(cat.pid) == b"cat"
        cat.communicate()
    assert processes.command_of(cat.pid) is None


def test_a_process_that_becomes_another_program_is_called_by_that(processes: Processes) -> None:
    script = "echo; read line; exec cat"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdout.readline()
        before = processes.command_of(shell.pid)
        shell.stdin.write(b"\nsaid\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"said\n"  # by cat
        assert (before, processes.command_of(shell.pid)) == (b"sh", b"cat")
        shell.stdin.close()


def test_only_so_many_descriptors_are_kept(processes: Processes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    running = [subprocess.Popen(["cat"], stdin=subprocess.PIPE) for _ in range(20)]
    pipes = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert all(processes.command_of(cat.pid) for cat in running)
    kept = len(os.listdir("/proc/self/fd")) - pipes
    for cat in running:
        cat.communicate()
    assert kept == processes._most_commands
    assert pipes == before + 20
    assert (kept_commands(64), kept_commands(1024), kept_commands(1 << 20)) == (0, 8, 8)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes pid namespaces")
def test_another_pid_namespaces_proc_tells_nothing() -> None:
    """Otherwise user 1 here would have the capabilities of user 1 there."""
    program = (
        "import os\n"
        "from fusenotify.fs.processes import is_capable, status_of\n"
        "print(os.getpid(), len(status_of(1)) > 0, is_capable(1, 3, os.stat('/')))"
    )
    said = [
        subprocess.run(
            ["unshare", "--pid", "--fork", *options, sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for options in ([], ["--mount-proc"])
    ]
    assert said == ["1 False False\n", "1 True True\n"]
