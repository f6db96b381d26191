# SPDX-License-Identifier: GPL-2.0-or-later
"""A crowd of clients that come and go, in a process of its own.

    python -m tests.server.crowd SOCKET TOP CLIENTS SEED

tests.server.soak runs several and kills one with SIGKILL now and then.  Each
client connects, makes a device, watches a few directories of TOP (a path of
the mount), behaves in one of the WAYS for some seconds, and is replaced.
Ends by SIGTERM, or when the server does.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys

import anyio
import anyio.abc

from fusenotify.client.aio import Client, Device
from fusenotify.masks import IN_ALL_EVENTS, IN_ONESHOT
from tests.server import fuzz

# How a client behaves, and how many of a hundred do.
WAYS = {"drain": 40, "read": 20, "leave": 15, "stuck": 15, "trickle": 5, "garbage": 5}
_LONGEST = 20.0  # seconds that a client stays


def directories(top: str) -> list[str]:
    """Return some directories that exist now; names that disappear meanwhile are skipped."""
    found = [top]
    for path, below, _ in os.walk(top):
        found += [os.path.join(path, name) for name in below]
        if len(found) > 200:
            break
    return found


async def watch(device: Device, mountpoint: str, places: list[str], chosen: random.Random) -> None:
    for path in chosen.choices(places, k=chosen.randrange(1, 6)):
        mask = IN_ALL_EVENTS | (0 if chosen.randrange(4) else IN_ONESHOT)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            await device.add_watch(os.path.relpath(path, mountpoint), mask)


async def use(name: str, way: str, top: str, chosen: random.Random) -> None:
    """Be a client of the library."""
    async with Client(name) as client:
        device = await client.init(max_queued_events=chosen.choice([4, 256, 16384]))
        mountpoint = os.fsdecode(client.mountpoint)
        await watch(device, mountpoint, directories(top), chosen)
        with anyio.move_on_after(chosen.uniform(0.1, _LONGEST)):
            if way == "drain":
                async for _ in device.stream():
                    pass
            while way == "read":
                await device.read()
                await client.sync()
            if way == "stuck":
                await anyio.sleep_forever()


async def speak(name: str, way: str, chosen: random.Random) -> None:
    """Be a client that does not speak as it should."""
    data = fuzz.frame_of(type="hello", id=1, version=1) + fuzz.frame_of(type="init", id=2)
    data += fuzz.frame_of(type="add_watch", id=3, device=1, path=b"/", mask=IN_ALL_EVENTS)
    data += fuzz.frame_of(type="stream", id=4, device=1, size=65536)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        await anyio.to_thread.run_sync(connection.connect, name)
        if way == "garbage":
            data = b"".join(fuzz.frame(chosen) for _ in range(20))
        with contextlib.suppress(OSError):
            connection.send(data)
        with anyio.move_on_after(chosen.uniform(0.1, _LONGEST)):
            while True:  # a byte a second
                await anyio.sleep(1)
                with contextlib.suppress(BlockingIOError):
                    if not connection.recv(1):
                        return


async def guest(name: str, top: str, chosen: random.Random) -> None:
    """Be one client after the other."""
    while True:
        (way,) = chosen.choices([*WAYS], [*WAYS.values()])
        with contextlib.suppress(OSError):
            if way in ("trickle", "garbage"):
                await speak(name, way, chosen)
            else:
                await use(name, way, top, chosen)
        if not os.path.exists(name):
            return
        await anyio.sleep(chosen.uniform(0, 0.5))


async def crowd(name: str, top: str, clients: int, seed: int) -> None:
    async with anyio.create_task_group() as guests:
        for number in range(clients):
            guests.start_soon(guest, name, top, random.Random(f"{seed}-{number}"))


if __name__ == "__main__":
    anyio.run(crowd, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
