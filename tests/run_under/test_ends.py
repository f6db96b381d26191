# SPDX-License-Identifier: GPL-2.0-or-later
"""A program under ``run`` ends, stops and is signalled as if it ran alone."""

from __future__ import annotations

import contextlib
import os
import platform
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusenotify.testing import TemporaryMount
from tests.cli.command import ended, environment, until
from tests.run_under.programs import run_command, under


@contextmanager
def started(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield a run and its program's process id, which the program prints last in a line."""
    with subprocess.Popen(
        run_command(*arguments), env=environment(), stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        program = int(run.stdout.readline().split()[-1])
        try:
            yield run, program
        finally:
            run.kill()
            assert ended(program)


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 41", 41), ("kill -TERM $$", -15), ("kill -KILL $$", -9)],
)
def test_the_status_is_the_programs(script: str, status: int) -> None:
    done = under("--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["--", "no-such-program"], 127, "no-such-program: No such file"),
        (["--", "/etc/passwd"], 126, "/etc/passwd: Permission denied"),
        (["--"], 125, "which program?"),
        (["--max-queued-events=x", "--", "true"], 125, "whole number"),
        (["--mount=/no/such/place", "--", "true"], 125, "/no/such/place"),
        (["--record=/no/such/place", "--", "true"], 125, "/no/such/place"),
        (["--", *run_command("--", "true")], 125, "another supervisor has this process"),
    ],
)
def test_what_cannot_be_run_says_why(command: list[str], status: int, says: str) -> None:
    done = under(*command)
    assert done.returncode == status
    assert says in done.stderr


def test_where_seccomp_is_forbidden_the_message_says_so() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("seccomp has another number there")
    # As containers' profiles do it: the system call itself fails.
    script = (
        "import ctypes, os, struct, sys\n"
        "code = [(32, 0, 0, 0), (21, 0, 1, 317), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)]\n"
        "filter = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *i) for i in code))\n"
        "program = struct.pack('@HP', len(code), ctypes.addressof(filter))\n"
        "prctl = ctypes.CDLL(None).prctl\n"
        "assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *run_command("--", "true")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert "forbids it" in done.stderr


def test_input_output_directory_and_arguments_are_the_programs(tmp_path: Path) -> None:
    script = 'cat; pwd; printf "%s," "$@"; ls /proc/self/fd | wc -l; echo bad >&2'
    command = ["sh", "-c", script, "sh", "--", "a b", "-c"]
    ours = under("--", *command, input="given\n", cwd=tmp_path)
    native = subprocess.run(
        command, input="given\n", cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ours.stdout, ours.stderr) == (native.stdout, native.stderr)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_descriptor_that_is_closed_stays_so(closed: str, tmp_path: Path) -> None:
    found = tmp_path / "found"
    show = f"ls /proc/$$/fd > {found}"
    outputs = []
    for command in (["sh", "-c", show], run_command("--", "sh", "-c", show)):
        line = shlex.join(command)
        subprocess.run(["sh", "-c", f"{line} {closed}"], env=environment(), check=True)
        outputs.append(found.read_text())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("name", ["TERM", "INT", "RTMIN+3"])
def test_a_signal_to_the_run_is_the_programs(name: str) -> None:
    with started(
        "--", "bash", "-c", f"trap 'exit 9' {name}; echo $$; while :; do sleep 0.01; done"
    ) as (
        run,
        _,
    ):
        run.send_signal(signal.SIGRTMIN + 3 if "+" in name else signal.Signals[f"SIG{name}"])
        assert run.wait(20) == 9


@pytest.mark.parametrize("to_group", [False, True], ids=["to the run", "to the group"])
def test_a_signal_comes_once(to_group: bool) -> None:
    # Of a real-time signal none is lost, however many wait.
    program = (
        "import os, signal as s\n"
        "s.pthread_sigmask(s.SIG_BLOCK, {s.SIGRTMIN, s.SIGTERM})\n"
        "print(os.getpid(), flush=True)\n"
        "while (number := s.sigwait({s.SIGRTMIN, s.SIGTERM})) != s.SIGTERM:\n"
        "    print('came', flush=True)"
    )
    with subprocess.Popen(
        run_command("--", sys.executable, "-c", program),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        for _ in range(10):
            os.kill(-run.pid if to_group else run.pid, signal.SIGRTMIN)
            assert run.stdout.readline() == "came\n"
        run.terminate()
        assert run.communicate(timeout=20)[0] == ""


def test_a_signal_that_the_program_ignores_does_not_end_the_run() -> None:
    script = "trap '' INT TERM; echo $$; read answer; exit 5"
    with subprocess.Popen(
        run_command("--", "sh", "-c", script),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.terminate()
        run.send_signal(signal.SIGINT)
        run.communicate("go on\n", timeout=20)
        assert run.returncode == 5


def test_the_program_is_killed_with_the_run() -> None:
    with started("--", "sh", "-c", "echo $$; exec sleep 1000") as (run, program):
        run.kill()
        run.wait()
        assert ended(program)


def test_the_program_is_killed_with_its_supervisor() -> None:
    with started("--", "sh", "-c", "echo $$; exec sleep 1000") as (run, program):
        with open(f"/proc/{program}/stat") as file:
            supervisor = int(file.read().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        assert run.wait(20) == 125
        assert ended(program)


@pytest.mark.mount
def test_what_goes_on_in_the_background_is_still_served(
    scenarios: Path, fusenotify_mount: TemporaryMount, tmp_path: Path
) -> None:
    fifo, out = tmp_path / "fifo", tmp_path / "out"
    os.mkfifo(fifo)
    watches = f"{scenarios} {fusenotify_mount.path} merging"
    background = f"read word < {fifo}; {watches} > {out}; echo > {fifo}"
    done = under("--", "sh", "-c", f"({background}) > /dev/null 2>&1 & exit 3")
    assert done.returncode == 3
    fifo.write_text("go on\n")
    fifo.read_text()
    assert out.read_text() == "read: 32: 1/2/a\n" * 3 + "read: EAGAIN\n"


@pytest.mark.mount
def test_a_program_that_is_stopped_and_goes_on_is_still_served(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    with started("--", scenarios, fusenotify_mount.path, "waits_for_ever") as (run, program):
        os.kill(program, signal.SIGSTOP)
        until(lambda: _state(run.pid) == b"T", "the run stops")
        os.kill(program, signal.SIGCONT)
        (fusenotify_mount.path / "a").touch()
        assert run.stdout is not None
        assert run.stdout.readline() == "read: 32: 1/100/a\n"
        os.kill(run.pid, signal.SIGCONT)
        assert run.wait(20) == 0


def test_a_program_that_is_stopped_for_a_moment_again_and_again_ends_the_run() -> None:
    with subprocess.Popen(
        run_command("--", "sh", "-c", "echo $$; read word; exit 3"),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        program = int(run.stdout.readline())
        for microseconds in range(0, 1000, 20):
            os.kill(program, signal.SIGSTOP)
            time.sleep(microseconds / 1e6)
            os.kill(program, signal.SIGCONT)
        try:
            run.communicate("go on\n", timeout=10)
        finally:
            run.kill()
        assert run.returncode == 3


@pytest.mark.mount
def test_a_program_that_waits_for_events_can_be_killed(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    with started("--", scenarios, fusenotify_mount.path, "waits_for_ever") as (run, program):
        os.kill(program, signal.SIGKILL)
        assert run.wait(20) == -signal.SIGKILL


@pytest.mark.mount
def test_a_daemon_that_is_killed_ends_the_watches(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    with started("--", scenarios, fusenotify_mount.path, "waits_for_ever") as (run, _):
        os.kill(fusenotify_mount.pid, signal.SIGKILL)
        assert run.stdout is not None
        assert run.stdout.readline() == "read: 32: 1/2000/ 1/8000/\n"
        assert run.wait(20) == 0


class Terminal:
    """A shell with job control, on a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            env = environment() | {"PS1": "$ ", "HISTFILE": "/dev/null"}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env)
        self._said = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Wait until the terminal showed a text, behind what was waited for before."""
        deadline = time.monotonic() + seconds
        while text not in self._said:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self._said!r}"
            if select.select([self._fd], [], [], left)[0]:
                self._said += os.read(self._fd, 4096).decode(errors="replace").replace("\r", "")
        self._said = self._said.split(text, 1)[1]

    def has_a_job_in_front(self) -> bool:
        return os.tcgetpgrp(self._fd) != self.pid

    def close(self) -> None:
        """End the shell and all that it started."""
        for pid, _, _, session in list(_processes()):
            if session == self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_the_terminals_keys_and_the_shells_jobs_work(terminal: Terminal) -> None:
    run = " ".join(run_command("--"))
    script = "trap 'echo int' INT; echo began; while read line; do echo got $line; done; echo end"
    terminal.type(f"{run} bash -c {shlex.quote(script)}\n")
    terminal.wait_for("began\n")
    terminal.type("one\n")
    terminal.wait_for("got one\n")
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    terminal.type("fg\n")
    until(terminal.has_a_job_in_front, "the job is in front")
    terminal.type("two\n")
    terminal.wait_for("got two\n")
    terminal.type("\x04")
    terminal.wait_for("end\n")
    terminal.type(f"{run} sleep 100\n")
    until(lambda: bool(_children_named(b"sleep", terminal.pid)), "sleep runs")
    terminal.type("\x03")
    terminal.type('echo "then=$?"\n')
    terminal.wait_for("then=130\n")


def test_a_job_in_the_background_that_reads_is_stopped(terminal: Terminal) -> None:
    terminal.type(" ".join(run_command("--")) + " cat &\n")
    terminal.wait_for("]")
    until(lambda: _is_stopped(terminal.pid), "the job stops")
    terminal.type("\njobs\n")
    terminal.wait_for("Stopped")
    terminal.type("fg\n")
    until(terminal.has_a_job_in_front, "the job is in front")
    terminal.type("said\n")
    terminal.wait_for("said\nsaid\n")
    terminal.type("\x04")
    terminal.type('echo "then=$?"\n')
    terminal.wait_for("then=0\n")


def test_a_shell_in_the_run_that_suspends_itself_comes_back(terminal: Terminal) -> None:
    # It makes a group of its own; what continues the job continues the run's group.
    terminal.type("PS1='out''er> '\n")
    terminal.wait_for("outer> ")
    terminal.type(" ".join(run_command("--")) + " bash --norc --noprofile -i\n")
    terminal.type("PS1='in''ner> '\n")
    terminal.wait_for("inner> ")
    terminal.type("suspend\n")
    terminal.wait_for("Stopped")
    terminal.wait_for("outer> ")
    terminal.type("fg\n")
    until(terminal.has_a_job_in_front, "the job is in front")
    terminal.type("echo $((6*7)); exit 5\n")
    terminal.wait_for("42\n")
    terminal.wait_for("outer> ")
    terminal.type('echo "then=$?"\n')
    terminal.wait_for("then=5\n")


def test_a_stopped_job_ends_with_its_shell(terminal: Terminal) -> None:
    terminal.type(" ".join(run_command("--")) + " sleep 100\n")
    until(lambda: bool(_children_named(b"sleep", terminal.pid)), "sleep runs")
    (program,) = _children_named(b"sleep", terminal.pid)
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    os.kill(terminal.pid, signal.SIGKILL)
    assert ended(program)


def _processes() -> Iterator[tuple[int, bytes, bytes, int]]:
    """Yield each process: its id, command, state and session."""
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                head, _, tail = file.read().rpartition(b")")
        except OSError:
            continue
        fields = tail.split()
        yield int(entry), head.partition(b"(")[2], fields[0], int(fields[3])


def _state(wanted: int) -> bytes:
    return next(state for pid, _, state, _ in _processes() if pid == wanted)


def _children_named(command: bytes, session: int) -> list[int]:
    return [pid for pid, name, _, of in _processes() if name == command and of == session]


def _is_stopped(session: int) -> bool:
    """Return whether a shell's job is stopped: what stands for the program, and the program."""
    return [state for _, _, state, of in _processes() if of == session].count(b"T") == 2
