# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand machines on one NATS server: each event once, and in order for each machine.

    python -m tests.nats.thousand --machines 1000 --mounts 10 --events 100

There are as many mounts with journals as this machine carries, and a thousand publishers, in two
processes.  Each publisher has a connection, a claim, a place and subjects of its own, and
publishes one of the journals as if it were a machine's own.  Half of the changes are made before
they begin, half while they publish.  One subscriber gets everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import fusenotify
from fusenotify.nats import publish, subscribe
from fusenotify.nats.connection import Address
from tests.cli.command import until
from tests.nats.servers import NatsServer

_PROCESSES = 2
# How many publishers of a process begin at the same time.
_AT_ONCE = 10


def publish_all(sockets: list[str], url: str, machines: list[str]) -> None:
    """Publish the mounts in turn, each machine one, until killed; if one fails, all end."""

    async def all_of_them() -> None:
        starting = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int, machine: str) -> None:
            began = asyncio.Event()
            socket = sockets[number % len(sockets)]
            async with starting:
                task = tasks.create_task(
                    publish(
                        socket, Address(url), machine=machine, on_published=lambda _: began.set()
                    )
                )
                await began.wait()
            await task

        async with asyncio.TaskGroup() as tasks:
            for number, machine in enumerate(machines):
                tasks.create_task(one(number, machine))

    try:
        asyncio.run(all_of_them())
    except BaseException:
        traceback.print_exc()
        os.kill(os.getppid(), signal.SIGINT)


async def received(url: str, expected: int) -> tuple[Counter[str], float]:
    """Return how many events came of each machine, and in how many seconds.

    Raises AssertionError where an event is missing, comes twice, or is out of order.
    """
    counts: Counter[str] = Counter()
    began = time.perf_counter()
    async with contextlib.aclosing(subscribe(Address(url), since=1)) as events:
        async for each in events:
            counts[each.machine] += 1
            assert each.event.sequence == counts[each.machine], each
            if counts.total() == expected:
                break
    return counts, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="a thousand publishers on one NATS server")
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--mounts", type=int, default=10)
    parser.add_argument("--events", type=int, default=100, help="of each machine")
    arguments = parser.parse_args()
    machines = [f"machine{number}" for number in range(arguments.machines)]
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="thousand-")))
        (top / "nats").mkdir()
        server = NatsServer(top / "nats")
        stack.callback(server.stop, signal.SIGKILL)
        mounts = []
        for number in range(arguments.mounts):
            here = top / str(number)
            for name in ("source", "mnt"):
                (here / name).mkdir(parents=True)
            mount = fusenotify.mounted(here / "source", here / "mnt", journal=here / "journal")
            mounts.append(stack.enter_context(mount))
        for number in range(arguments.events // 2):
            _make(mounts, number)
        sockets = [mount.socket for mount in mounts]
        for process in range(_PROCESSES):
            work = sockets, server.url, machines[process::_PROCESSES]
            publisher = multiprocessing.Process(target=publish_all, args=work)
            publisher.start()
            stack.callback(publisher.join)
            stack.callback(publisher.kill)
        until(server.has_stream, "the stream is made")
        for number in range(arguments.events // 2, arguments.events):
            _make(mounts, number)
        expected = arguments.machines * arguments.events
        counts, seconds = asyncio.run(received(server.url, expected))
    assert {*counts.values()} == {arguments.events}, counts
    assert len(counts) == arguments.machines
    print(
        f"{len(counts)} machines, {expected} events, each once and in order for each machine, "
        f"in {seconds:.0f} s with all connections and claims: {expected / seconds:.0f} events/s"
    )


def _make(mounts: list[fusenotify.Mounted], number: int) -> None:
    for mount in mounts:
        os.mkdir(f"{mount.mountpoint}/{number}")


if __name__ == "__main__":
    main()
