# SPDX-License-Identifier: GPL-2.0-or-later
"""How many events a second a publisher puts into a stream of a server on this machine.

python -m tests.nats.rate --events 20000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path

import fusenotify
from fusenotify.nats import publish
from fusenotify.nats.connection import Address
from tests.nats.servers import NatsServer


async def published(socket: str, url: str, events: int) -> float:
    """Publish a journal with so many events; return how many seconds it takes."""
    done = asyncio.Event()

    def count(acknowledged: int) -> None:
        if acknowledged >= events:
            done.set()

    began = time.perf_counter()
    publishing = asyncio.create_task(publish(socket, Address(url), on_published=count))
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait([publishing, waiting], return_when=asyncio.FIRST_COMPLETED)
    taken = time.perf_counter() - began
    for task in (waiting, publishing):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="measure how fast events are published")
    parser.add_argument("--events", type=int, default=20_000)
    events = parser.parse_args().events // 2 * 2
    with tempfile.TemporaryDirectory(prefix="rate-") as directory:
        top = Path(directory)
        for name in ("source", "mnt", "nats"):
            (top / name).mkdir()
        server = NatsServer(top / "nats")
        try:
            with fusenotify.mounted(top / "source", top / "mnt", journal=top / "journal") as mount:
                for _ in range(events // 2):
                    os.mkdir(top / "mnt" / "directory")
                    os.rmdir(top / "mnt" / "directory")
                seconds = asyncio.run(published(mount.socket, server.url, events))
        finally:
            server.stop(signal.SIGKILL)
    print(f"{events} events in {seconds:.1f} s: {events / seconds:.0f} events/s")


if __name__ == "__main__":
    main()
