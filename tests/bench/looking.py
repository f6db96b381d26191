# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.bench.looking: what looking at a mount costs the programs that work in it.

A program makes, writes and removes files, and looks at them, in a mount that nobody looks
at, and in mounts with one thing more each: ``fusenotify top``, ``fusenotify wait -m -r`` for
comparison, ``mount -v``, ``mount --debug``.  They take turns, and the medians of all
rounds are printed, with the processor time of the daemon and of who looks, for each request
of the program.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cli.command import FUSENOTIFY, environment, fusenotify, until

# What each has: options of mount, and who looks.
SUBJECTS: dict[str, tuple[list[str], list[str]]] = {
    "nobody": ([], []),
    "top": ([], ["top", "--batch"]),
    "top -d 0.2": ([], ["top", "--batch", "-d", "0.2"]),
    "wait -m -r": ([], ["wait", "-m", "-r"]),
    "-v --log-file": (["-v", "--log-file", "LOG"], []),
    "--debug --log-file": (["--debug", "--log-file", "LOG"], []),
}
TICK = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Subject:
    """A mount, and the programs that look at it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.mnt = directory / "mnt"
        for each in ("source", "mnt"):
            (directory / each).mkdir(parents=True)
        options, looks = SUBJECTS[name]
        options = [word.replace("LOG", str(directory / "log")) for word in options]
        command = [*FUSENOTIFY, "mount", "-f", *options, str(directory / "source"), str(self.mnt)]
        self.daemon = subprocess.Popen(command, env=environment())
        until(self.mnt.is_mount, "it is mounted")
        self.looker: subprocess.Popen[bytes] | None = None
        if looks:
            self.looker = subprocess.Popen(
                [*FUSENOTIFY, *looks, str(self.mnt)],
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            until(lambda: b"trees" in self._status(), "it watches")
        self.wall: list[float] = []
        self.spent: list[float] = []
        self.looked: list[float] = []

    def _status(self) -> bytes:
        said = fusenotify("status", "--json", str(self.mnt)).stdout
        return b"trees" if '"trees": 1' in said else b""

    def work(self, files: int) -> None:
        """Take a sample: microseconds for each of the program's seven calls a file."""
        calls = 7 * files
        before = processor_seconds(self.daemon.pid)
        looked = processor_seconds(self.looker.pid) if self.looker else 0.0
        begin = time.perf_counter()
        for number in range(files):
            path = f"{self.mnt}/{number % 50}"
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
            os.write(descriptor, b"content")
            os.pread(descriptor, 7, 0)
            os.close(descriptor)
            os.rename(path, f"{path} renamed")
            os.stat(f"{path} renamed")
            os.unlink(f"{path} renamed")
        self.wall.append((time.perf_counter() - begin) / calls * 1e6)
        self.spent.append((processor_seconds(self.daemon.pid) - before) / calls * 1e6)
        if self.looker:
            self.looked.append((processor_seconds(self.looker.pid) - looked) / calls * 1e6)

    def close(self) -> None:
        if self.looker is not None:
            self.looker.kill()
            self.looker.wait()
        fusenotify("unmount", str(self.mnt))
        self.daemon.wait()


@contextlib.contextmanager
def subjects() -> Iterator[list[Subject]]:
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        made = []
        for number, name in enumerate(SUBJECTS):
            made.append(Subject(name, Path(work) / str(number)))
            stack.callback(made[-1].close)
        yield made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.looking", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--files", type=int, default=1000, help="files that are made in a sample")
    given = parser.parse_args()
    with subjects() as made:
        for _ in range(given.rounds):
            for subject in made:
                subject.work(given.files)
        print("µs for each call of the program, medians")
        print(f"{'':<20}{'wall':>8}{'daemon':>8}{'looker':>8}")
        for subject in made:
            looked = statistics.median(subject.looked) if subject.looked else 0.0
            print(
                f"{subject.name:<20}{statistics.median(subject.wall):>8.1f}"
                f"{statistics.median(subject.spent):>8.1f}{looked:>8.1f}"
            )


if __name__ == "__main__":
    main()
