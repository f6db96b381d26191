# SPDX-License-Identifier: GPL-2.0-or-later
"""Status shows everything to root and to the daemon's user, to others what is theirs."""

from __future__ import annotations

import errno
from itertools import count

import pytest

from fusenotify.admission import Quotas
from fusenotify.credentials import Credentials
from fusenotify.engine.limits import Limits
from fusenotify.masks import IN_CREATE
from fusenotify.protocol.messages import (
    AddWatch,
    Close,
    DeviceMade,
    Init,
    Status,
    StatusOf,
)
from fusenotify.protocol.status import (
    DeviceStatus,
    DirectoryActivity,
    LimitsStatus,
    Statistics,
    UserActivity,
    UserStatus,
)
from fusenotify.server.devices import ConnectionDevices
from fusenotify.server.status import MOST, status_for
from tests.server.conftest import Served
from tests.server.memory_tree import MemoryTree

ROOT = Credentials(pid=1, uid=0, gid=0)
ANN = Credentials(pid=2, uid=1001, gid=1001)
BEN = Credentials(pid=3, uid=1002, gid=1002)


def busy_status(who: Credentials) -> Status:
    """Return the status that a user sees while Ann and Ben have a device each."""
    tree = MemoryTree()
    clients = []
    for user in (ANN, BEN):
        devices = ConnectionDevices(tree.table, tree, user, count(1))
        devices.answer(Init(id=1))
        devices.answer(AddWatch(id=2, device=1, path=b"/", mask=0xFFF))
        clients.append((user, devices))
    tree.make("a")
    return status_for(
        who,
        7,
        table=tree.table,
        quotas=Quotas(),
        mountpoint=b"/m",
        source=b"/s",
        started=0.0,
        tasks=9,
        clients=clients,
    )


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        pytest.param(ROOT, [1001, 1002], id="root"),
        pytest.param(ANN, [1001], id="one with a device"),
        pytest.param(Credentials(pid=4, uid=1003, gid=1003), [], id="one without"),
    ],
)
def test_which_clients_a_user_sees(who: Credentials, seen: list[int]) -> None:
    status = busy_status(who)
    assert [client.uid for client in status.clients] == seen
    assert status.users == [
        UserStatus(uid=uid, watches=1, devices=1, connections=1) for uid in seen
    ]


def test_statistics_are_for_users_who_see_everybody() -> None:
    counted = Statistics(
        events={"CREATE": 1},
        directories=[DirectoryActivity(path=b"/", events=1)],
        users=[],
        overflows=0,
        merged=0,
        lost=0,
    )
    assert busy_status(ROOT).statistics == counted
    assert busy_status(ANN).statistics is None


@pytest.mark.trio
async def test_statistics_come_over_the_socket(served: Served) -> None:
    peer = await served.connect()
    await peer.device(max_queued_events=1)
    served.tree.make("sub", directory=True)
    await peer.ask(AddWatch(device=1, path=b"/sub", mask=IN_CREATE))
    served.tree.hooks.by(BEN)
    for name in "ab":
        served.tree.make(f"sub/{name}")
    await peer.ask(Close(device=1))
    status = await peer.ask(StatusOf())
    assert isinstance(status, Status)
    assert status.statistics == Statistics(
        events={"CREATE": 2},
        directories=[DirectoryActivity(path=b"/sub", events=2)],
        users=[UserActivity(uid=BEN.uid, events=2)],
        overflows=1,
        merged=0,
        lost=1,
    )


@pytest.mark.trio
async def test_the_longest_statistics_fit_an_answer(served: Served) -> None:
    peer = await served.connect()
    await peer.device()
    deep = ""
    for _ in range(20):
        deep += "/" + "x" * 255
        served.tree.make(deep, directory=True)
    for number in range(2 * MOST):
        path = f"{deep}/{number}"
        served.tree.make(path, directory=True)
        await peer.ask(AddWatch(device=1, path=path.encode(), mask=IN_CREATE))
        served.tree.make(f"{path}/a")
    status = await peer.ask(StatusOf())
    assert isinstance(status, Status)
    assert status.statistics is not None
    assert len(status.statistics.directories) == MOST


@pytest.mark.trio
async def test_status_comes_over_the_socket(served: Served) -> None:
    peer = await served.connect()
    await peer.device(max_queued_events=1)
    await peer.ask(AddWatch(device=1, path=b"/", mask=0xFFF))
    for name in "abc":
        served.tree.make(name)
    status = await peer.ask(StatusOf())
    assert isinstance(status, Status)
    assert (status.mountpoint, status.source, status.semantics) == (b"/mnt/x", b"/srv/x", "linux-6")
    assert status.limits == LimitsStatus(
        max_queued_events=16384,
        max_user_instances=128,
        max_user_watches=8192,
        max_user_trees=128,
        max_user_connections=256,
        max_waiting_requests=256,
        max_request_bytes=65536,
        max_answer_bytes=1114112,
    )
    assert status.clients[0].devices == [
        DeviceStatus(
            device=1,
            uid=0,
            semantics="linux-6",
            queued=2,
            max_queued_events=1,
            watches=1,
            overflows=1,
            merged=0,
            lost=2,
        )
    ]
    assert 0 <= status.uptime < 60
    assert status.tasks > 0


@pytest.mark.parametrize(
    ("who", "wanted", "allowed"),
    [(ANN, 5, True), (ANN, 6, False), (ROOT, 6, True), (ANN, 0, True)],
)
def test_only_the_privileged_exceed_the_mounts_queue(
    who: Credentials, wanted: int, allowed: bool
) -> None:
    tree = MemoryTree(limits=Limits(max_queued_events=5))
    devices = ConnectionDevices(tree.table, tree, who, count(1))
    request = Init(id=1, max_queued_events=wanted)
    if allowed:
        assert devices.answer(request) == DeviceMade(id=1, device=1)
    else:
        with pytest.raises(PermissionError, match="max_queued_events = 5"):
            devices.answer(request)


def test_a_user_reaches_the_limit_of_devices_in_one_connection() -> None:
    tree = MemoryTree(limits=Limits(max_user_instances=1))
    devices = ConnectionDevices(tree.table, tree, ANN, count(1))
    devices.answer(Init(id=1))
    with pytest.raises(OSError, match="max_user_instances") as refusal:
        devices.answer(Init(id=2))
    assert refusal.value.errno == errno.EMFILE
    devices.close()
    assert tree.table.users.all() == {}


def test_a_directory_that_the_user_may_not_read_is_not_watched() -> None:
    tree = MemoryTree()
    tree.make("secret", readable=False)
    devices = ConnectionDevices(tree.table, tree, ANN, count(1))
    devices.answer(Init(id=1))
    with pytest.raises(PermissionError):
        devices.answer(AddWatch(id=2, device=1, path=b"/secret", mask=1))
