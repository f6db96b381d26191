# SPDX-License-Identifier: GPL-2.0-or-later
"""Both clients cause faults, and hear why they may not."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from fusenotify.client import Client, ConnectionLost, aio
from fusenotify.events import Event, unpack
from fusenotify.masks import IN_CREATE
from fusenotify.protocol.faults import Clear, Disconnect, Lose, Overflow, Refuse
from tests.client.running import Running
from tests.server.fuzz import attack


@pytest.fixture
def faulty(tmp_path: Path, mountpoint: bytes) -> Iterator[Running]:
    running = Running(str(tmp_path / "x.sock"), mountpoint, faults=True)
    running.start()
    yield running
    running.stop()


def test_the_blocking_client(faulty: Running) -> None:
    with Client(faulty.socket) as tester, Client(faulty.socket) as client:
        tester.init()
        device = client.init(nonblock=True)
        device.add_watch("/", IN_CREATE)
        tester.fault(Lose(1), device.number)
        faulty.make("a", "b")
        assert [*unpack(device.read())] == [Event(1, IN_CREATE, 0, b"b")]
        tester.fault(Disconnect(), device.number)
        with pytest.raises(ConnectionLost):
            device.read()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_client(faulty: Running, backend: str) -> None:
    async def test() -> None:
        async with aio.Client(faulty.socket) as tester, aio.Client(faulty.socket) as client:
            device = await client.init()
            await tester.fault(Refuse(1), device.number)
            with pytest.raises(OSError, match="--faults") as refused:
                await device.add_watch("/", IN_CREATE)
            assert refused.value.errno == errno.ENOSPC
            await tester.fault(Disconnect())
            with pytest.raises(ConnectionLost):
                await device.read()

    anyio.run(test, backend=backend)


def test_a_server_without_faults_refuses_them(running: Running, client: Client) -> None:
    with pytest.raises(PermissionError, match="--faults"):
        client.fault(Overflow())
    assert client.status()


def test_hostile_faults_end_neither_the_server_nor_its_order(
    faulty: Running, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = random.Random(5)
    for number in range(150):
        attack(faulty.socket, chosen, 20)
        faulty.make(f"f{number}")
    with Client(faulty.socket) as client:
        client.fault(Disconnect())
        (user,) = client.status().users
        assert (user.devices, user.watches) == (0, 0)
        device = client.init(nonblock=True)
        client.fault(Clear())
        device.add_watch("/", IN_CREATE)
        faulty.make("last")
        assert [*unpack(device.read())] == [Event(1, IN_CREATE, 0, b"last")]
    assert not caplog.records
