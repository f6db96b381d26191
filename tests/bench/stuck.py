# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients that never read cost the filesystem: ``python -m tests.bench.stuck``.

Mounts once for each of CROWDS, side by side, and gives each mount its crowd of
stuck clients, which stream and never read.  Every round takes a sample of each
mount in turn, and compares its throughput with that of the mount without clients.

Invariant
    No client of a crowd reads behind its set-up, and none ends before the run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

import fusenotify
from fusenotify import Mounted
from fusenotify.bits import IN_ALL_EVENTS
from fusenotify.client import Client
from fusenotify.protocol.codec import answer_decoder, encode
from fusenotify.protocol.messages import (
    VERSION,
    AddWatch,
    Error,
    Hello,
    Init,
    Stream,
)
from fusenotify.protocol.status import (
    DeviceStatus,
)
from tests.bench.results import Results, Seconds, in_turn, ratio_text, time_text

NONE, ELSEWHERE, FULL, FILLING = "none", "elsewhere", "full", "filling"
CROWDS = {
    NONE: "none",
    ELSEWHERE: "watch another directory",
    FULL: "watch it, queues full",
    FILLING: "watch it, queues filling",
}
# Events of a device's queue: short where it is to be full, the mount's own where it is to fill.
_QUEUE = {ELSEWHERE: 256, FULL: 256, FILLING: 16384}
# With the number of events that one of them is in the watched directory.
OPERATIONS = {"create+unlink": 4, "write 4 KiB": 1}
_BLOCK = b"x" * 4096


@dataclass
class Crowd:
    """A mount and its stuck clients; memory is the daemon's in KiB, with what had happened."""

    kind: str
    mount: Mounted
    client: Client
    connections: list[socket.socket] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("busy", "elsewhere"):
            os.mkdir(os.path.join(self.mount.mountpoint, name))
        self.busy = os.path.join(self.mount.mountpoint, "busy")

    def join(self, clients: int) -> None:
        """Let so many stuck clients connect and watch."""
        self.weigh("alone")
        if self.kind == NONE:
            return
        place = b"elsewhere" if self.kind == ELSEWHERE else b"busy"
        for _ in range(clients):
            self.connections.append(stuck_client(self.mount.socket, place, _QUEUE[self.kind]))
        self.client.sync()
        self.weigh("connected")

    def fill_sockets(self) -> float:
        """Work until records wait for every client; return the seconds of a create+unlink."""
        taken: list[float] = []
        while not all(device.queued for device in self.devices()):
            taken.append(self.create_and_unlink(10))
        self.weigh("sockets full")
        return statistics.mean(taken)

    def overflow(self) -> None:
        """Work until every queue has overflowed."""
        while not all(device.overflows for device in self.devices()):
            self.create_and_unlink(50)
        self.weigh("queues full")

    def devices(self) -> list[DeviceStatus]:
        return [device for client in self.client.status().clients for device in client.devices]

    def weigh(self, moment: str) -> None:
        """Note the daemon's resident memory."""
        with open(f"/proc/{self.mount.pid}/statm") as fields:
            pages = int(fields.read().split()[1])
        self.memory[moment] = pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def sample(self, count: int) -> tuple[Seconds, Seconds]:
        """Return the seconds of an operation of each kind, and those of the daemon's CPU."""
        seconds, used = Seconds(), Seconds()
        for operation, work in zip(OPERATIONS, (self.create_and_unlink, self.write), strict=True):
            work(count // 4)  # the daemon slept while others had their turn
            before = self.used()
            seconds[operation] = work(count)
            used[operation] = (self.used() - before) / count
        return seconds, used

    def used(self) -> float:
        """Return how many seconds of CPU the daemon's main thread had, which serves all."""
        with open(f"/proc/{self.mount.pid}/schedstat") as fields:
            return int(fields.read().split()[0]) * 1e-9

    def create_and_unlink(self, count: int) -> float:
        self.client.sync()
        begin = time.perf_counter()
        for number in range(count):
            path = f"{self.busy}/{number}"
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.unlink(path)
        self.client.sync()  # a close is heard before it
        return (time.perf_counter() - begin) / count

    def write(self, count: int) -> float:
        descriptor = os.open(f"{self.busy}/written", os.O_CREAT | os.O_WRONLY)
        try:
            begin = time.perf_counter()
            for _ in range(count):
                os.pwrite(descriptor, _BLOCK, 0)
            return (time.perf_counter() - begin) / count
        finally:
            os.close(descriptor)


def stuck_client(name: str, path: bytes, queue: int) -> socket.socket:
    """Return the connection of a client that watches, streams and will never read."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(name)
    set_up = (
        Hello(id=1, version=VERSION),
        Init(id=2, max_queued_events=queue),
        AddWatch(id=3, device=1, path=path, mask=IN_ALL_EVENTS),
    )
    connection.sendall(b"".join(map(encode, set_up)))
    decoder, answered = answer_decoder(), 0
    while answered < len(set_up):
        for answer in decoder.feed(connection.recv(4096)):
            if isinstance(answer, Error):
                raise OSError(answer.errno, answer.message)
            answered += 1
    connection.sendall(encode(Stream(id=4, device=1, size=65536)))
    return connection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", type=int, default=1000, help="operations of a sample")
    parser.add_argument(
        "--filling", type=int, default=20, help="operations of a sample while queues fill"
    )
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        top = stack.enter_context(tempfile.TemporaryDirectory(prefix="stuck-", dir=_memory()))
        crowds = [_crowd(stack, Path(top, kind), kind, options.clients) for kind in CROWDS]
        *_, full, filling = crowds
        full.overflow()
        sending = filling.fill_sockets()
        results, used = Results([*OPERATIONS]), Results([*OPERATIONS])
        for number in range(-1, options.rounds):
            samples = {
                crowd.kind: crowd.sample(
                    options.filling if crowd.kind == FILLING else options.count
                )
                for crowd in in_turn(crowds, max(number, 0))
            }
            if number >= 0:  # the first round warms up
                results.add_round({kind: seconds for kind, (seconds, _) in samples.items()})
                used.add_round({kind: seconds for kind, (_, seconds) in samples.items()})
        for crowd in crowds:
            crowd.weigh("at the end")
        queued = max(device.queued for device in filling.devices())
        overflowed = any(device.overflows for device in filling.devices())
    console = Console(width=120)
    console.print(throughputs(results, used, options.clients))
    console.print(memories(crowds, options.clients))
    console.print(
        f"While sockets still took the records, a create+unlink took {time_text(sending)} µs. "
        f"The queues that filled had at most {queued} events at the end"
        + (" and overflowed: fewer --filling operations are needed." if overflowed else ".")
    )


def _memory() -> str | None:
    """Return where files are in memory, as a disk's times would hide what is compared."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _crowd(stack: contextlib.ExitStack, top: Path, kind: str, clients: int) -> Crowd:
    (top / "source").mkdir(parents=True)
    (top / "mnt").mkdir()
    mount = stack.enter_context(
        fusenotify.mounted(
            top / "source",
            top / "mnt",
            max_user_instances=2 * clients + 100,
            max_user_connections=2 * clients + 100,
            max_user_watches=2 * clients + 100,
        )
    )
    crowd = Crowd(kind, mount, stack.enter_context(mount.client()))
    crowd.join(clients)
    for connection in crowd.connections:
        stack.enter_context(connection)
    return crowd


def throughputs(results: Results, used: Results, clients: int) -> Table:
    """Return the table of what the filesystem does beside each crowd."""
    table = Table(
        "the clients",
        "operation",
        "µs",
        "throughput / none",
        "of the rounds",
        "µs of the daemon's CPU",
        "more per client and event",
        title=f"{clients} clients that never read, {len(results.samples[NONE])} rounds",
    )
    for kind, what in CROWDS.items():
        for operation, events in OPERATIONS.items():
            median = results.median(kind, operation)
            busy = used.median(kind, operation)
            more = (busy - used.median(NONE, operation)) / (clients * events)
            low, high = results.spread(NONE, kind, operation)
            table.add_row(
                what,
                operation,
                time_text(median),
                ratio_text(results.ratio(NONE, kind, operation)),
                f"{ratio_text(low)} to {ratio_text(high)}",
                time_text(busy),
                "" if kind == NONE else f"{more * 1e6:.3f}",
            )
    return table


def memories(crowds: list[Crowd], clients: int) -> Table:
    """Return the table of the daemons' resident memory."""
    table = Table("the clients", "KiB of the daemon", "KiB per client", title="Resident memory")
    for crowd in crowds:
        alone = crowd.memory["alone"]
        for moment, memory in crowd.memory.items():
            what = f"{crowd.kind}, {moment}"
            table.add_row(what, str(memory), f"{(memory - alone) / clients:.1f}")
    return table


if __name__ == "__main__":
    main()
