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
from fusenotify.testing import MountDevice, TemporaryMount, assert_events
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


@pytest.mark.mount
@pytest.mark.fusenotify(faults=True)
def test_faults_of_tree_watches(
    fusenotify_mount: TemporaryMount, fusenotify_device: MountDevice
) -> None:
    top, faults, device = fusenotify_mount.path, fusenotify_mount.faults, fusenotify_device
    (top / "a" / "b").mkdir(parents=True)
    wd = device.watch(".", "CREATE|DELETE", tree=True)
    faults.inject(wd, "CREATE", "a/b/never")
    faults.lose(1, "CREATE", device=device)
    for name in ("a/b/lost", "a/b/told"):
        (top / name).touch()
    (top / "a/b/lost").unlink()
    assert_events(device, ["CREATE a/b/never", "CREATE a/b/told", "DELETE a/b/lost"])
    faults.overflow()
    (top / "a/lost").touch()
    assert_events(device, ["Q_OVERFLOW"])
    faults.refuse(1)
    with pytest.raises(OSError, match="--faults") as refused:
        device.watch("a", "CREATE", tree=True)
    assert refused.value.errno == errno.ENOSPC
    device.watch("a", "CREATE", tree=True)
    faults.delay(3600)
    (top / "a/b/late").touch()
    assert_events(device, [])
    faults.clear()
    assert_events(device, ["a: CREATE b/late", ".: CREATE a/b/late"], any_order=True)


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
