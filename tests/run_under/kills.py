# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds of SIGKILL: of the program, what stands for it, its supervisor, or the mount's daemon.

    python -m tests.run_under.kills [--rounds N] [--seed N]

In each round a program watches a mount in which files come and go; at a moment of chance one of
the four is killed.  Then the run must end by itself, or at SIGTERM where the daemon was
killed, within ten seconds, and no process and no mount may be left.  Prints how many rounds
each had, and the longest end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fusenotify import mountinfo
from fusenotify.testing import temporary_mount
from tests.cli.command import environment
from tests.run_under.programs import compiled, run_command

VICTIMS = ("program", "front", "supervisor", "daemon")
# A read that is held back, reads of the pipe, a storm of calls, and several processes.
WATCHES = {
    "held": ["watch", "40"],
    "blocked": ["watch", "4096"],
    "calling": ["signal_storm"] * 40,
    "many": ["many_descriptors"] * 40,
}
_SECONDS = 10.0
_MARK = "FUSENOTIFY_KILLS_ROUND"


def main() -> int:
    """Do the rounds; return 1 where one left something or did not end."""
    parser = argparse.ArgumentParser("python -m tests.run_under.kills", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", metavar="N", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, help="as an earlier one printed it")
    arguments = parser.parse_args()
    rounds, seed = arguments.rounds, arguments.seed
    if seed is None:
        seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory(prefix="fn-kills-") as directory:
        compiled(Path(directory))
        for number in range(rounds):
            victim, watch = VICTIMS[number % len(VICTIMS)], chance.choice(list(WATCHES))
            taken, fault = _round(Path(directory), number, victim, watch, chance.uniform(0, 0.5))
            longest = max(longest, taken)
            done[victim] += 1
            if fault:
                print(f"round {number} (seed {seed}), {victim} of {watch}: {fault}")
                return 1
    print(f"{rounds} rounds: nothing left; the longest end took {longest:.2f} s")
    print(", ".join(f"{victim} {count}" for victim, count in done.items()))
    return 0


def _round(top: Path, number: int, victim: str, watch: str, delay: float) -> tuple[float, str]:
    """Do one, and return how long the end took and what was wrong."""
    mark = f"{os.getpid()}.{number}"
    env = environment() | {_MARK: mark}
    (top / str(number)).mkdir()
    with temporary_mount(top / str(number)) as mount:
        command = run_command("--", top / "scenarios", mount.path, *WATCHES[watch])
        with (
            subprocess.Popen(
                command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as run,
            _busy(mount.path),
        ):
            if not _wait(lambda: len(_family(run.pid)) == 3):
                return 0.0, "it does not start"
            front, supervisor, program = _family(run.pid)
            time.sleep(delay)
            victims = dict(zip(VICTIMS, (program, front, supervisor, mount.pid), strict=True))
            with contextlib.suppress(ProcessLookupError):
                os.kill(victims[victim], signal.SIGKILL)
            began = time.monotonic()
            if victim == "daemon":
                # The kernel may wait for it in a call of the program's: then SIGTERM is not seen.
                run.terminate()
            try:
                run.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                left = _left(mark)
                run.kill()
                return _SECONDS, f"the run did not end: {left}"
            taken = time.monotonic() - began
            if not _wait(lambda: not _left(mark)):
                return taken, f"left: {_left(mark)}"
            assert run.stderr is not None
            said = run.stderr.read().decode()
    if "Traceback" in said or "fault of fusenotify" in said:
        return taken, said
    mounted = [one for one in mountinfo.mounts() if os.fsencode(top) in one.mountpoint]
    return taken, f"mounted: {mounted}" if mounted else ""


@contextlib.contextmanager
def _busy(directory: Path) -> Iterator[None]:
    """Have files come and go in a directory meanwhile."""
    end = threading.Event()

    def work() -> None:
        number = 0
        with contextlib.suppress(OSError):  # the daemon was killed
            while not end.is_set():
                path = directory / f"busy-{number % 50}"
                path.touch()
                path.unlink()
                number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _family(front: int) -> list[int]:
    """Return a run's processes as far as they are there: front, supervisor, program."""
    for supervisor in _children(front):
        for program in _children(supervisor):
            return [front, supervisor, program] if _runs(program) else [front, supervisor]
    return [front]


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def _runs(pid: int) -> bool:
    """Return whether a child has become the program."""
    return os.readlink(f"/proc/{pid}/exe").endswith("/scenarios")


def _left(mark: str) -> dict[int, str]:
    """Return the processes of a round that live, with their state and command."""
    found = {}
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/environ", "rb") as file:
                if f"{_MARK}={mark}\0".encode() not in file.read() + b"\0":
                    continue
            with open(f"/proc/{entry}/stat") as stat:
                found[int(entry)] = stat.read().split(")")[0] + stat.read()[:2]
    return found


def _wait(condition: object) -> bool:
    """Return whether a condition held in time."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, IndexError):
            if condition():  # type: ignore[operator]
                return True
        select.select([], [], [], 0.01)
    return False


if __name__ == "__main__":
    sys.exit(main())
