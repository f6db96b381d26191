# SPDX-License-Identifier: GPL-2.0-or-later
"""The seed's answers again, through a server and its clients on a real socket.

Each user of a vector is a connection of its own, made under that user's uid,
as the server sees it by SO_PEERCRED.  What happens in the filesystem is said
to the core in the server's thread; everything about devices goes over the
socket.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from fusenotify.client import Client
from tests.client.running import MOUNTPOINT, Running
from tests.engine.vectors import POLICIES, SeedEngine, check, vectors

# How long a read may take that finds something queued.
SECONDS = 10.0

P = ParamSpec("P")
T = TypeVar("T")


class ServedEngine(SeedEngine):
    """The operations of the vectors, asked of a server; its devices are clients'."""

    def __init__(self, running: Running, connections: contextlib.ExitStack) -> None:
        super().__init__(running.tree.table)
        self._running = running
        self._connections = connections
        self._clients: dict[int, Client] = {}
        # A number that the server once gave and no longer knows.
        self._closed = self._client(os.geteuid()).init()
        self._closed.close()

    def produce(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._running.do(call, *args, **kwargs)

    def device(self, label: int) -> Any:
        return self.devices.get(label, self._closed)

    def new_inode(self, inode: int) -> None:
        self.inodes[inode] = self.produce(self._running.tree.make, f"{inode}", directory=True)

    def init(self, dev: int, uid: int) -> None:
        self.devices[dev] = self._client(uid).init()

    def close(self, dev: int) -> None:
        super().device(dev)  # a client's second close is nothing
        super().close(dev)

    def add_watch(self, dev: int, inode: int, mask: int) -> int:
        wd: int = self.device(dev).add_watch(f"/{inode}", mask)
        return wd

    def records(self, dev: int, size: int, nonblock: bool) -> bytes:
        records: bytes = self.device(dev).read(size, timeout=0 if nonblock else SECONDS)
        return records

    def is_readable(self, dev: int) -> bool:
        return bool(self.device(dev).poll(timeout=0))

    def _client(self, uid: int) -> Client:
        """Return the user's connection."""
        if uid not in self._clients:
            with as_effective_user(uid):
                client = Client(self._running.socket)
            self._clients[uid] = self._connections.enter_context(client)
        return self._clients[uid]


@contextlib.contextmanager
def as_effective_user(uid: int) -> Iterator[None]:
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can connect as other users")
@pytest.mark.parametrize("vector", vectors())
def test_answers_as_the_seed_does_over_a_socket(vector: dict[str, Any], public_path: Path) -> None:
    policy = POLICIES[vector["coalesce"]]
    running = Running(str(public_path / "x.sock"), MOUNTPOINT, policy=policy, mode=0o666)
    running.start()
    try:
        with contextlib.ExitStack() as connections:
            check(ServedEngine(running, connections), vector)
    finally:
        running.stop()
