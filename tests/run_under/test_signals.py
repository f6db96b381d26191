# SPDX-License-Identifier: GPL-2.0-or-later
"""A program under ``run`` has the mask, the ignored signals and the signals that it would have."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.cli.command import environment
from tests.run_under.programs import run_command

STATUS = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
# Python ignores SIGPIPE and SIGXFSZ before it runs any code of ours: docs/reference/run.md.
LOST = {signal.SIGPIPE, signal.SIGXFSZ}


def ours_and_natively(script: str) -> list[tuple[int, str]]:
    """Return the exit status and output of a command that a shell starts after a script."""
    found = []
    for command in (STATUS, run_command("--", *STATUS)):
        done = subprocess.run(
            ["bash", "-c", f'{script}; exec "$@"', "bash", *command],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr == ""
        found.append((done.returncode, done.stdout))
    return found


@pytest.mark.parametrize(
    "numbers",
    [{signal.SIGCHLD}, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP} - LOST],
    ids=["SIGCHLD", "all"],
)
def test_signals_that_were_ignored_are_ignored_by_the_program(numbers: set[int]) -> None:
    native, ours = ours_and_natively(f"trap '' {' '.join(map(str, map(int, numbers)))}")
    assert ours == native


@pytest.mark.xfail(reason="Python ignores them before it runs any code of ours", strict=True)
def test_signals_that_python_ignores_and_that_were_ignored_are_so() -> None:
    native, ours = ours_and_natively("trap '' PIPE XFSZ")
    assert ours == native


def test_a_signal_that_was_blocked_is_blocked_in_the_program() -> None:
    script = (
        "import os, signal, sys\n"
        "for number in (signal.SIGPIPE, signal.SIGXFSZ): signal.signal(number, signal.SIG_DFL)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {1, 2, 10, 11, 13, 15, 17, 18, 20, 34, 40})\n"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, *command],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        for command in (STATUS, run_command("--", *STATUS))
    }
    assert len(outputs) == 1


FAULTS = ["ABRT", "SEGV", "BUS", "FPE", "ILL", "TRAP", "PIPE", "SYS"]
# No handler prints: it may come while the line before is being written, which Python refuses.
WAITS = """
import signal, sys
numbers = {signal.Signals["SIG" + name] for name in sys.argv[1:]}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print(flush=True)
while True:
    print(int(signal.sigwait(numbers)), flush=True)
"""


def test_signals_of_faults_that_are_sent_to_the_run_are_the_programs() -> None:
    with subprocess.Popen(
        run_command("--", sys.executable, "-c", WAITS, *FAULTS[1:]),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        for number in (signal.Signals[f"SIG{name}"] for name in FAULTS[1:]):
            run.send_signal(number)
            assert run.stdout.readline() == f"{int(number)}\n"
        run.send_signal(signal.SIGABRT)
        assert (run.wait(20), run.communicate()[1]) == (-signal.SIGABRT, "")
