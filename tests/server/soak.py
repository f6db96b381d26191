# SPDX-License-Identifier: GPL-2.0-or-later
"""Hundreds of clients that come and go while programs work: does anything stay behind?

    python -m tests.server.soak --minutes 60 --clients 500 [--load COMMAND]

Mounts a directory, lets crowds (tests.server.crowd) and a load work on it, and
says every ten seconds what the daemon holds.  One crowd at a time is killed
with SIGKILL and another put in its place.  COMMAND is run by the shell, in a
directory of the mount, again whenever it ends; without it, each of LOADERS
processes makes, writes, renames and removes trees.

Exit status 1 where at the end, with all clients gone, the daemon has other
descriptors, tasks, devices or watches than at the beginning, or where it grew
by more than SLACK_KIB in the second half of the time, beside what the longest
queues took.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from fusenotify import Mounted, mounted
from fusenotify.client import Client

CROWDS = 10
LOADERS = 2
INTERVAL = 10.0  # seconds between two lines, and between two deaths of a crowd
SLACK_KIB = 2048
# What a queued record takes of the daemon (python -m tests.bench memory).
RECORD_BYTES = 134
_BUILT_IN = (sys.executable, "-m", "tests.server.load")


class Held(NamedTuple):
    """What a daemon holds: numbers, and its resident memory in KiB."""

    connections: int
    devices: int
    watches: int
    queued: int
    tasks: int
    descriptors: int
    memory: int

    @classmethod
    def by(cls, mount: Mounted, client: Client) -> Held:
        """Ask a daemon; the asking client's own connection is left out."""
        status = client.status()
        devices = [device for each in status.clients for device in each.devices]
        with open(f"/proc/{mount.pid}/statm") as fields:
            pages = int(fields.read().split()[1])
        return cls(
            connections=len(status.clients) - 1,
            devices=len(devices),
            watches=sum(device.watches for device in devices),
            queued=sum(device.queued for device in devices),
            tasks=status.tasks,
            descriptors=len(os.listdir(f"/proc/{mount.pid}/fd")),
            memory=pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        )

    def without_memory(self) -> Held:
        return self._replace(memory=0, queued=0)


class Crowds:
    """The processes whose clients come and go."""

    def __init__(self, mount: Mounted, clients: int, seed: int) -> None:
        self._mount = mount
        self._each = clients // CROWDS
        self._chosen = random.Random(seed)
        self._processes = [self._start() for _ in range(CROWDS)]

    def kill_one(self) -> None:
        """End one as a crash does, and put another in its place."""
        number = self._chosen.randrange(CROWDS)
        self._processes[number].kill()
        self._processes[number].wait()
        self._processes[number] = self._start()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        where = [self._mount.socket, self._mount.mountpoint, str(self._each)]
        seed = str(self._chosen.getrandbits(32))
        return subprocess.Popen([sys.executable, "-m", "tests.server.crowd", *where, seed])


@contextlib.contextmanager
def load(command: str | None, directory: Path) -> Iterator[list[int]]:
    """Run the load again and again; yields a list to which each end adds its exit status."""
    ends: list[int] = []
    over = threading.Event()
    running: dict[int, subprocess.Popen[bytes]] = {}

    def work(number: int) -> None:
        place = directory / str(number)
        place.mkdir()
        while not over.is_set():
            if command is None:
                process = subprocess.Popen([*_BUILT_IN, str(place)], start_new_session=True)
            else:
                process = subprocess.Popen(
                    ["sh", "-c", command], cwd=place, start_new_session=True, stdout=sys.stderr
                )
            running[number] = process
            process.wait()
            if not over.is_set():
                ends.append(process.returncode)

    threads = [
        threading.Thread(target=work, args=(number,))
        for number in range(LOADERS if command is None else 1)
    ]
    for thread in threads:
        thread.start()
    try:
        yield ends
    finally:
        over.set()
        for process in [*running.values()]:
            end_session(process.pid)
        for thread in threads:
            thread.join()


def end_session(session: int) -> None:
    """Kill all processes of a session, whatever groups they made, and see them gone."""
    found = True
    while found:
        found = False
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == session and state not in "ZX":
                    os.kill(int(stat.parent.name), signal.SIGKILL)
                    found = True


def slope(lines: list[Held]) -> float:
    """Return by how many KiB resident memory grew in the second half of the lines.

    What the longest queues took so far is left out: an allocator keeps it.
    """
    longest = accumulate((held.queued for held in lines), max)
    besides = [
        held.memory - queued * RECORD_BYTES / 1024
        for held, queued in zip(lines, longest, strict=True)
    ]
    half = besides[len(besides) // 2 :]
    quarter = max(len(half) // 4, 1)
    return fmean(half[-quarter:]) - fmean(half[:quarter])


def soak(mount: Mounted, options: argparse.Namespace) -> int:
    console = Console(width=None if sys.stdout.isatty() else 120)
    lines: list[Held] = []
    with mount.client() as client:
        before = Held.by(mount, client)
        console.print("before", before)
        end = time.monotonic() + 60 * options.minutes
        work = Path(mount.mountpoint) / "load"
        work.mkdir()
        crowds = Crowds(mount, options.clients, options.seed)
        try:
            with load(options.load, work) as ends:
                while time.monotonic() < end:
                    time.sleep(INTERVAL)
                    lines.append(Held.by(mount, client))
                    left = max(end - time.monotonic(), 0)
                    console.print(f"{left:5.0f} s left", lines[-1], highlight=False)
                    crowds.kill_one()
        finally:
            crowds.close()
        subprocess.run(["rm", "-rf", str(work)], check=True)
        for _ in range(50):  # the kernel forgets, and sessions end, a moment later
            after = Held.by(mount, client)
            if after.without_memory() == before.without_memory():
                break
            time.sleep(0.2)
        counted = client.status().statistics
    grown = slope(lines) if len(lines) > 4 else 0.0
    table = Table("", *Held._fields)
    table.add_row("before", *map(str, before))
    table.add_row("most", *(str(max(column)) for column in zip(*lines, strict=True)))
    table.add_row("after", *map(str, after))
    console.print(table)
    assert counted is not None
    console.print(
        f"{sum(counted.events.values())} events, {counted.overflows} overflows, "
        f"{counted.lost} lost in full queues; the load ended {len(ends)} times "
        f"with {sorted(set(ends))}; resident memory grew by {grown:.0f} KiB in the second half, "
        "beside the longest queues"
    )
    return int(after.without_memory() != before.without_memory() or grown > SLACK_KIB)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--load", metavar="COMMAND")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fusenotify-soak-") as top:
        source, mountpoint = Path(top, "source"), Path(top, "mnt")
        source.mkdir()
        mountpoint.mkdir()
        with mounted(source, mountpoint, max_user_instances=2**16, max_user_watches=2**20) as mount:
            return soak(mount, options)


if __name__ == "__main__":
    sys.exit(main())
