# SPDX-License-Identifier: GPL-2.0-or-later
"""How long after a program's syscall a client that waits has the record.

tests.bench.server calls latency().  This module is also the program that
waits, in a process of its own: for records of ours, for the kernel's inotify,
or for a byte on a socket that it sends back; after each it prints when.  All
three take turns, so each waits again long before its next turn.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic_ns

from fusenotify.bits import IN_ATTRIB
from fusenotify.client import Client
from tests.bench.compared import Settings
from tests.bench.filesystems import PROJECT
from tests.bench.memory import mounted
from tests.bench.results import Results, in_turn
from tests.bench.targets import Target
from tests.differential.linux import LinuxDevice

SAMPLES = 500  # of each, in a round
OURS, KERNEL, ROUND_TRIP = "fusenotify", "the kernel's inotify", "a round trip on a socket"
BOTH = "the kernel's inotify and a round trip"


def latency(settings: Settings) -> list[Target]:
    """Return the targets."""
    results = Results(("latency", "p99"))
    count = SAMPLES // 5 if settings.quick else SAMPLES
    with mounted() as mount, tempfile.TemporaryDirectory() as native, ExitStack() as stack:
        near, far = socket.socketpair()
        watched = {OURS: Path(mount.mountpoint, "file"), KERNEL: Path(native, "file")}
        for path in watched.values():
            path.touch()
        wait_for_ours = stack.enter_context(waiting("ours", mount.socket))
        wait_for_kernel = stack.enter_context(waiting("kernel", native))
        wait_for_echo = stack.enter_context(waiting("echo", str(far.fileno()), inherit=far))

        def changed(path: Path, wait: Callable[[], int]) -> int:
            os.chmod(path, 0o600)
            return wait()

        def answered() -> int:
            near.send(b"x")
            near.recv(1)
            answered_at = monotonic_ns()
            wait_for_echo()
            return answered_at

        samples = {
            OURS: lambda: changed(watched[OURS], wait_for_ours),
            KERNEL: lambda: changed(watched[KERNEL], wait_for_kernel),
            ROUND_TRIP: answered,
        }
        for _ in range(settings.rounds):
            taken: dict[str, list[float]] = {name: [] for name in samples}
            for number in range(count):
                for name in in_turn(list(samples), number):
                    start = monotonic_ns()
                    taken[name].append((samples[name]() - start) * 1e-9)
            peer = statistics.median(taken[KERNEL]) + statistics.median(taken[ROUND_TRIP])
            results.add_round(
                {
                    OURS: {
                        "latency": statistics.median(taken[OURS]),
                        "p99": statistics.quantiles(taken[OURS], n=100)[-1],
                    },
                    BOTH: {"latency": peer, "p99": peer},
                }
            )
        near.close()
        far.close()
    what = "server: from a syscall to the record in a client that waits"
    ours = {name: results.median(OURS, name) * 1e6 for name in ("latency", "p99")}
    return [
        Target(f"{what}, median", f"/ {BOTH}", 2.0, results.ratio(OURS, BOTH, "latency")),
        Target(f"{what}, median", "its time", None, ours["latency"], "µs"),
        Target(f"{what}, 99th percentile", "its time", None, ours["p99"], "µs"),
    ]


@contextmanager
def waiting(
    kind: str, where: str, inherit: socket.socket | None = None
) -> Iterator[Callable[[], int]]:
    """Run a process that waits, and give a function that returns when it woke (monotonic ns)."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__, kind, where],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        pass_fds=() if inherit is None else (inherit.fileno(),),
    ) as process:
        assert process.stdout is not None
        output = process.stdout
        try:
            assert output.readline() == b"ready\n"
            yield lambda: int(output.readline())
        finally:
            process.terminate()


def wait_for_records(name: str) -> Iterator[None]:
    with Client(name) as client:
        device = client.init()
        device.add_watch("/", IN_ATTRIB)
        yield
        for _ in device.stream():
            yield


def wait_for_kernel(directory: str) -> Iterator[None]:
    device = LinuxDevice()
    device.add_watch(Path(directory), IN_ATTRIB)
    os.set_blocking(device.fd, True)
    yield
    while device.read(4096):
        yield


def echo(descriptor: str) -> Iterator[None]:
    with socket.socket(fileno=int(descriptor)) as far:
        yield
        while byte := far.recv(1):
            far.send(byte)
            yield


def main() -> None:
    kind, where = sys.argv[1:]
    wakes = {"ours": wait_for_records, "kernel": wait_for_kernel, "echo": echo}[kind](where)
    next(wakes)
    os.write(1, b"ready\n")
    for _ in wakes:
        os.write(1, b"%d\n" % monotonic_ns())


if __name__ == "__main__":
    main()
