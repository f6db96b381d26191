# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of a tree in memory on a real socket, in the test's own trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from fusenotify.server import Server
from fusenotify.server.listener import bind_socket
from tests.server.memory_tree import MemoryTree
from tests.server.peer import Peer


class Served:
    """A server, its tree, and connections that are closed at the end of the test."""

    def __init__(self, server: Server, tree: MemoryTree, socket: str) -> None:
        self.server = server
        self.tree = tree
        self.socket = socket
        self.connections = AsyncExitStack()

    async def connect(self) -> Peer:
        """Return a new connection."""
        stream = await trio.open_unix_socket(self.socket)
        return Peer(await self.connections.enter_async_context(stream))


@pytest.fixture
def tree() -> MemoryTree:
    return MemoryTree()


@pytest.fixture
async def served(tmp_path: Path, tree: MemoryTree) -> AsyncIterator[Served]:
    async with serving(tmp_path, tree) as served:
        yield served


@asynccontextmanager
async def serving(
    directory: Path, tree: MemoryTree, *, faults: bool = False
) -> AsyncIterator[Served]:
    socket = str(directory / "x.sock")
    server = Server(tree.table, tree, mountpoint=b"/mnt/x", source=b"/srv/x", faults=faults)
    listener = bind_socket(socket, 0o600)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, listener)
        served = Served(server, tree, socket)
        async with served.connections:
            yield served
        nursery.cancel_scope.cancel()
