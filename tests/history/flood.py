# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal under a flood: the filesystem does not wait, memory is bounded, and losses are gaps.

    python -m tests.history.flood --rate 50000 --seconds 20
    python -m tests.history.flood --rate 50000 --seconds 20 --full 10

The daemon's server and journal run here without a filesystem, whose requests would take most of
the time: files are made and removed in the engine at the given rate, as operations of a mount
would be, while a client in another process follows the journal.  With --full, the disk is full for
so many seconds, so that changes wait until there is no more room for them.

It fails if an event is neither read by the client nor in a gap, or if numbers are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.client import Client
from fusenotify.history.bounds import Bounds
from fusenotify.history.journal import MOST_WAITING, Journal
from fusenotify.history.store import Store
from fusenotify.server import Server
from fusenotify.server.listener import bind_socket
from tests.server.memory_tree import MemoryTree

# How many events are made without letting the server's other tasks run.
_TOGETHER = 20
_LAST = b"last"


def follow(socket: str) -> None:
    """Read everything up to the last event; print how many events, gaps, and missing numbers."""
    events = gaps = missing = sequence = 0
    cursor, path = "begin", b""
    with Client(socket) as client:
        while path != _LAST:
            try:
                for event in client.since(cursor, follow=True):
                    missing += event.sequence - sequence - 1
                    if event.sequence != sequence + 1:
                        print(sequence, event, file=sys.stderr)
                    sequence, cursor, path = event.sequence, event.cursor, event.path
                    if event.mask & IN_Q_OVERFLOW:
                        gaps += 1
                    else:
                        events += 1
                    if path == _LAST:
                        break
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                time.sleep(0.1)  # until there is room again
    print(events, gaps, missing)


class Flood:
    """What was made, and how late."""

    def __init__(self, tree: MemoryTree, rate: int) -> None:
        self.made = 0
        self.latest = 0.0
        self._tree = tree
        self._rate = rate

    async def run(self, seconds: float) -> None:
        began = trio.current_time()
        while (passed := trio.current_time() - began) < seconds:
            due = min(int(passed * self._rate) - self.made, _TOGETHER)
            if due <= 0:
                await trio.sleep(0.0005)
                continue
            before = time.perf_counter()
            for _ in range(due // 2 + 1):
                self._tree.make("file")
                self._tree.remove("file")
                self.made += 2
            self.latest = max(self.latest, time.perf_counter() - before)
            await trio.lowlevel.checkpoint()


async def flood(top: Path, disk: Path, rate: int, seconds: float, full: float) -> None:
    socket = str(top / "socket")
    tree = MemoryTree()
    store = Store(bytes(disk / "journal"), b"/srv/x", Bounds())
    journal = Journal(tree.core, store)
    journal.watch(tree.root)
    server = Server(tree.table, tree, mountpoint=b"/mnt/x", source=b"/srv/x", journal=journal)
    flood = Flood(tree, rate)
    before = _resident()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, bind_socket(socket, 0o600))
        command = [sys.executable, "-m", __spec__.name, "--follow", socket]
        follower = await trio.to_thread.run_sync(
            lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        )
        began = trio.current_time()
        if full:
            nursery.start_soon(_fill, disk / "filling", full)
        await flood.run(seconds)
        taken = trio.current_time() - began
        most = _most_resident()
        waiting = journal._kept_bytes - journal._written_bytes
        while journal.failure is not None:
            await trio.sleep(0.1)
        tree.make(os.fsdecode(_LAST))
        said, _ = await trio.to_thread.run_sync(follower.communicate)
        nursery.cancel_scope.cancel()
    events, gaps, missing = map(int, said.split())
    lost = journal.lost
    journal.close()
    print(
        f"{flood.made} events in {taken:.0f} s, {flood.made / taken:.0f} a second; at most "
        f"{flood.latest * 1e3:.0f} ms for {_TOGETHER} of them; {waiting >> 20} of "
        f"{MOST_WAITING >> 20} MiB waited at the end; memory {before} MiB before, at most {most}; "
        f"{events} read by the client, {lost} lost, in {gaps} gaps"
    )
    assert missing == 0, f"{missing} numbers are missing"
    assert events + lost == flood.made + 1, "an event is neither read nor lost"
    assert bool(gaps) == bool(lost)


async def _fill(filling: Path, seconds: float) -> None:
    """Leave no room on the disk for so many seconds, after a second with room."""
    await trio.sleep(1)
    command = ["dd", "if=/dev/zero", f"of={filling}", "bs=64k"]
    await trio.to_thread.run_sync(
        lambda: subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    )
    await trio.sleep(seconds)
    filling.unlink()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20


def _most_resident() -> int:
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) >> 10


def main() -> None:
    parser = argparse.ArgumentParser(description="flood a journal that a client follows")
    parser.add_argument("--rate", type=int, default=50_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--full", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--follow", metavar="SOCKET", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.follow:
        follow(arguments.follow)
        return
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flood-")))
        disk = top / "disk"
        disk.mkdir()
        if arguments.full:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", disk], check=True)
            stack.callback(lambda: subprocess.run(["umount", "-l", disk], check=True))
        trio.run(flood, top, disk, arguments.rate, arguments.seconds, arguments.full)


if __name__ == "__main__":
    main()
