# SPDX-License-Identifier: GPL-2.0-or-later
"""Testers' levers do what they are named for, on the device that is meant and on no other."""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import UNSET

from fusenotify.credentials import Credentials
from fusenotify.engine.policy import LINUX_2_6_18, LINUX_6, Policy
from fusenotify.events import Event, unpack
from fusenotify.masks import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_DELETE,
    IN_IGNORED,
    IN_ISDIR,
    IN_Q_OVERFLOW,
)
from fusenotify.protocol.faults import (
    AnyFault,
    Clear,
    Delay,
    Disconnect,
    Inject,
    Lose,
    Overflow,
    Refuse,
)
from fusenotify.protocol.messages import (
    AddWatch,
    CauseFault,
    Count,
    Done,
    Error,
    Fionread,
    Poll,
    Read,
    Ready,
    Records,
    RmWatch,
    StatusOf,
    Stream,
    WatchAdded,
)
from fusenotify.protocol.status import (
    FaultStatus,
)
from tests.server.conftest import Served, serving
from tests.server.memory_tree import MemoryTree
from tests.server.peer import Peer

pytestmark = pytest.mark.trio

OVERFLOW = Event(-1, IN_Q_OVERFLOW)


@pytest.fixture
async def faulty(tmp_path: Path, tree: MemoryTree) -> AsyncIterator[Served]:
    """A server of a mount that was made with --faults."""
    async with serving(tmp_path, tree, faults=True) as served:
        yield served


@pytest.fixture
async def tester(faulty: Served) -> Peer:
    """A connection without devices."""
    peer = await faulty.connect()
    await peer.hello()
    return peer


async def watching(served: Served, **options: Any) -> tuple[Peer, int]:
    """Return a client that watches the root, and its device."""
    peer = await served.connect()
    device = await peer.device(**options)
    answer = await peer.ask(AddWatch(device=device, path=b"/", mask=IN_ALL_EVENTS))
    assert isinstance(answer, WatchAdded)
    return peer, device


async def cause(tester: Peer, fault: AnyFault, device: int | None = None) -> None:
    answer = await tester.ask(CauseFault(fault=fault, device=device))
    assert isinstance(answer, Done), answer


async def queued(peer: Peer, device: int, size: int = 4096) -> list[Event]:
    """Return what can be read now."""
    answer = await peer.ask(Read(device=device, size=size, timeout=0))
    if isinstance(answer, Error):
        assert answer.errno == errno.EAGAIN
        return []
    assert isinstance(answer, Records)
    return list(unpack(answer.data))


def created(name: bytes) -> Event:
    return Event(1, IN_CREATE, 0, name)


async def refusal(tester: Peer, fault: AnyFault, device: int | None = None) -> Error:
    answer = await tester.ask(CauseFault(fault=fault, device=device))
    assert isinstance(answer, Error), answer
    return answer


# Who may, and on what.


async def test_a_mount_without_faults_refuses_and_names_the_option(served: Served) -> None:
    peer, device = await watching(served)
    refused = await refusal(peer, Overflow(), device)
    assert refused.errno == errno.EPERM
    assert "--faults" in refused.message
    assert (await peer.ask(StatusOf())).faults is UNSET
    assert await queued(peer, device) == []


async def test_other_users_may_not(faulty: Served, tester: Peer) -> None:
    owner = Credentials(pid=1, uid=65533, gid=65533)
    session = next(iter(faulty.server._sessions))
    session.who = owner
    refused = await refusal(tester, Clear())
    assert refused.errno == errno.EPERM
    assert "root" in refused.message


async def test_a_device_that_is_not_there_is_ebadf(faulty: Served, tester: Peer) -> None:
    await watching(faulty)
    assert (await refusal(tester, Overflow(), 7)).errno == errno.EBADF


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Inject(2**31, IN_CREATE), "watch descriptor"),
        (Inject(1, 0), "mask"),
        (Inject(1, 2**32), "mask"),
        (Inject(1, IN_CREATE, -1), "cookie"),
        (Inject(1, IN_Q_OVERFLOW), "overflow"),
        (Inject(1, IN_CREATE, 0, b""), "name"),
        (Inject(1, IN_CREATE, 0, b"a" * 256), "name"),
        (Inject(1, IN_CREATE, 0, b"a\0b"), "name"),
        (Inject(1, IN_CREATE, 0, b"a/" * 2048), "path"),
        (Lose(-1), "count"),
        (Lose(2**31), "count"),
        (Lose(1, 0), "mask"),
        (Refuse(-1), "count"),
        (Refuse(1, "EIO"), "ENOSPC or ENOMEM"),
        (Delay(-1), "seconds"),
        (Delay(3601), "seconds"),
        (Delay(math.nan), "seconds"),
        (Delay(math.inf), "seconds"),
    ],
)
async def test_a_meaningless_fault_is_einval_with_a_message(
    faulty: Served, tester: Peer, fault: AnyFault, word: str
) -> None:
    _, device = await watching(faulty)
    refused = await refusal(tester, fault, device)
    assert refused.errno == errno.EINVAL
    assert word in refused.message
    assert (await tester.ask(StatusOf())).faults == []


async def test_numbers_of_devices_are_the_mounts(faulty: Served) -> None:
    numbers = [(await watching(faulty))[1] for _ in range(3)]
    assert numbers == [1, 2, 3]


# Overflow.


@pytest.mark.parametrize("policy", [LINUX_6, LINUX_2_6_18], ids=lambda policy: policy.name)
async def test_an_overflow_is_told_and_events_are_lost_until_it_was_read(
    faulty: Served, tester: Peer, policy: Policy
) -> None:
    peer, device = await watching(faulty, semantics=policy.name)
    faulty.tree.make("before")
    await cause(tester, Overflow(), device)
    faulty.tree.make("lost")
    faulty.tree.make("lost too")
    (status,) = (await tester.ask(StatusOf())).clients[1].devices
    assert (status.queued, status.overflows, status.lost) == (2, 1, 2)
    assert await queued(peer, device) == [created(b"before"), OVERFLOW]
    for name in ("after", "and", "on"):
        faulty.tree.make(name)
    assert await queued(peer, device) == [created(b"after"), created(b"and"), created(b"on")]


async def test_an_overflow_of_an_empty_queue_wakes_waiting_requests(
    faulty: Served, tester: Peer
) -> None:
    peer, device = await watching(faulty)
    await peer.send(Read(device=device, size=4096))
    await trio.testing.wait_all_tasks_blocked()
    await cause(tester, Overflow(), device)
    answer = await peer.answer()
    assert isinstance(answer, Records)
    assert list(unpack(answer.data)) == [OVERFLOW]


async def test_a_queue_that_is_full_has_one_overflow_record(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty, max_queued_events=1)
    faulty.tree.make("a")
    faulty.tree.make("b")
    await cause(tester, Overflow(), device)
    assert await queued(peer, device) == [created(b"a"), OVERFLOW]


async def test_clear_ends_the_losses_of_an_overflow(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    await cause(tester, Overflow(), device)
    await cause(tester, Clear(), device)
    faulty.tree.make("a")
    assert await queued(peer, device) == [OVERFLOW, created(b"a")]


async def test_without_a_device_all_overflow(faulty: Served, tester: Peer) -> None:
    peers = [await watching(faulty) for _ in range(2)]
    await cause(tester, Overflow())
    assert [await queued(*each) for each in peers] == [[OVERFLOW], [OVERFLOW]]


# Inject.


async def test_an_injected_event_is_read_as_it_was_given(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    _, other = await watching(faulty)
    await cause(tester, Inject(-7, IN_DELETE | IN_ISDIR, 2**32 - 1, b"\xff" * 255), device)
    await cause(tester, Inject(5, IN_IGNORED), device)
    assert await queued(peer, device) == [
        Event(-7, IN_DELETE | IN_ISDIR, 2**32 - 1, b"\xff" * 255),
        Event(5, IN_IGNORED),
    ]
    assert await queued(_, other) == []


async def test_injected_events_merge_and_overflow_as_others(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty, max_queued_events=2)
    for name in (b"a", b"a", b"b", b"c"):
        await cause(tester, Inject(1, IN_CREATE, 0, name), device)
    faulty.tree.make("d")
    assert await queued(peer, device) == [created(b"a"), created(b"b"), OVERFLOW]
    (status,) = (await tester.ask(StatusOf())).clients[1].devices
    assert (status.merged, status.lost) == (1, 2)


# Lose.


async def test_the_next_events_are_lost_and_nothing_tells(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    other, others = await watching(faulty)
    await cause(tester, Lose(2), device)
    for name in ("a", "b", "c"):
        faulty.tree.make(name)
    assert await queued(peer, device) == [created(b"c")]
    assert await queued(other, others) == [created(b"a"), created(b"b"), created(b"c")]
    (status,) = (await tester.ask(StatusOf())).clients[1].devices
    assert (status.lost, status.overflows) == (0, 0)


async def test_only_events_of_the_mask_are_lost(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    await cause(tester, Lose(1, IN_DELETE), device)
    for name in ("a", "b"):
        faulty.tree.make(name)
        faulty.tree.remove(name)
    assert await queued(peer, device) == [
        created(b"a"),
        created(b"b"),
        Event(1, IN_DELETE, 0, b"b"),
    ]


async def test_losses_of_the_mount_are_counted_together_and_also_hit_later_devices(
    faulty: Served, tester: Peer
) -> None:
    await cause(tester, Lose(3))
    peers = [await watching(faulty) for _ in range(2)]
    faulty.tree.make("a")
    faulty.tree.make("b")
    got = [event for each in peers for event in await queued(*each)]
    assert got == [created(b"b")]


async def test_a_watch_whose_last_event_is_lost_is_given_back(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    await cause(tester, Lose(1, IN_IGNORED), device)
    await peer.ask(RmWatch(device=device, wd=1))
    assert await queued(peer, device) == []
    assert (await tester.ask(StatusOf())).users[0].watches == 0
    assert faulty.tree.root.pins == 0


async def test_losses_are_counted_where_the_queue_is_full(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty, max_queued_events=1)
    for name in "abc":
        faulty.tree.make(name)
    await cause(tester, Lose(1), device)
    faulty.tree.make("d")
    assert await queued(peer, device) == [created(b"a"), OVERFLOW]
    faulty.tree.make("e")
    assert await queued(peer, device) == [created(b"e")]


# Delay.


async def test_delayed_events_come_in_time_and_in_order(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    faulty.tree.make("before")
    await cause(tester, Delay(0.2), device)
    begin = trio.current_time()
    faulty.tree.make("a")
    faulty.tree.make("b")
    assert await queued(peer, device) == [created(b"before")]
    assert await peer.ask(Poll(device=device, timeout=0)) == Ready(id=5, ready=False)
    assert await peer.ask(Fionread(device=device)) == Count(id=6, bytes=0)
    answer = await peer.ask(Read(device=device, size=4096))
    assert trio.current_time() - begin >= 0.2
    assert isinstance(answer, Records)
    seen = list(unpack(answer.data))
    if len(seen) == 1:  # it was due a moment earlier
        seen += await queued(peer, device)
    assert seen[0] == created(b"a")


async def test_a_stream_is_delayed_too(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    await cause(tester, Delay(0.1))
    await peer.send(Stream(device=device, size=4096))
    for name in (b"a", b"b"):
        begin = trio.current_time()
        faulty.tree.make(name.decode())
        answer = await peer.answer()
        assert trio.current_time() - begin >= 0.1
        assert isinstance(answer, Records)
        assert list(unpack(answer.data)) == [created(name)]


async def test_a_shorter_delay_lets_nothing_overtake(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    await cause(tester, Delay(0.2), device)
    faulty.tree.make("a")
    await cause(tester, Delay(0.001), device)
    faulty.tree.make("b")
    begin = trio.current_time()
    seen: list[Event] = []
    while len(seen) < 2:
        answer = await peer.ask(Read(device=device, size=4096))
        seen += unpack(answer.data)
    assert trio.current_time() - begin > 0.05
    assert seen == [created(b"a"), created(b"b")]


@pytest.mark.parametrize("fault", [Delay(0), Clear()], ids=["delay 0", "clear"])
@pytest.mark.parametrize("whole_mount", [True, False])
async def test_the_end_of_a_delay_releases_held_events_at_once(
    faulty: Served, tester: Peer, fault: AnyFault, whole_mount: bool
) -> None:
    peer, device = await watching(faulty)
    meant = None if whole_mount else device
    await cause(tester, Delay(3600), meant)
    faulty.tree.make("a")
    await peer.send(Read(device=device, size=4096))
    await trio.testing.wait_all_tasks_blocked()
    await cause(tester, fault, meant)
    answer = await peer.answer()
    assert isinstance(answer, Records)
    assert list(unpack(answer.data)) == [created(b"a")]


async def test_a_delayed_queue_fills_and_overflows(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty, max_queued_events=2)
    await cause(tester, Delay(3600), device)
    for name in "abcd":
        faulty.tree.make(name)
    assert await queued(peer, device) == []
    await cause(tester, Delay(0), device)
    assert await queued(peer, device) == [created(b"a"), created(b"b"), OVERFLOW]


async def test_an_overflow_is_delayed_as_events_are(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    await cause(tester, Delay(3600), device)
    faulty.tree.make("a")
    await cause(tester, Overflow(), device)
    assert await queued(peer, device) == []
    await cause(tester, Delay(0), device)
    assert await queued(peer, device) == [created(b"a"), OVERFLOW]


# Refuse.


@pytest.mark.parametrize("error", ["ENOSPC", "ENOMEM"])
async def test_the_next_watches_are_refused(faulty: Served, tester: Peer, error: str) -> None:
    peer, device = await watching(faulty)
    await cause(tester, Refuse(2, error), device)
    watch = AddWatch(device=device, path=b"/", mask=IN_CREATE)
    for _ in range(2):
        answer = await peer.ask(watch)
        assert isinstance(answer, Error)
        assert errno.errorcode[answer.errno] == error
        assert "--faults" in answer.message
    assert isinstance(await peer.ask(watch), WatchAdded)


async def test_a_path_that_is_not_there_uses_no_refusal_up(faulty: Served, tester: Peer) -> None:
    peer = await faulty.connect()
    await cause(tester, Refuse(1))
    device = await peer.device()
    for path, code in ((b"none", errno.ENOENT), (b"/", errno.ENOSPC)):
        answer = await peer.ask(AddWatch(device=device, path=path, mask=IN_CREATE))
        assert isinstance(answer, Error)
        assert answer.errno == code


# Disconnect.


async def test_a_connection_ends_and_others_go_on(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    other, others = await watching(faulty)
    await peer.send(Read(device=device, size=4096))
    await cause(tester, Disconnect(), device)
    assert await peer.answer() is None
    faulty.tree.make("a")
    assert await queued(other, others) == [created(b"a")]
    assert len((await tester.ask(StatusOf())).clients) == 2


async def test_all_connections_end_except_the_one_that_asks(faulty: Served) -> None:
    asking, device = await watching(faulty)
    peers = [(await watching(faulty))[0] for _ in range(2)]
    await cause(asking, Disconnect())
    assert [await peer.answer() for peer in peers] == [None, None]
    faulty.tree.make("a")
    assert await queued(asking, device) == [created(b"a")]


async def test_a_client_may_end_its_own_connection(faulty: Served) -> None:
    peer, device = await watching(faulty)
    await peer.send(CauseFault(fault=Disconnect(), device=device))
    while await peer.answer() is not None:
        pass


# Status, clear, and what is between.


async def test_status_lists_lasting_faults_and_their_remainders(
    faulty: Served, tester: Peer
) -> None:
    _, device = await watching(faulty)
    await cause(tester, Lose(3), device)
    await cause(tester, Delay(0.5))
    await cause(tester, Refuse(2, "ENOMEM"))
    await cause(tester, Overflow(), device)
    faulty.tree.make("a")
    assert (await tester.ask(StatusOf())).faults == [
        FaultStatus(device=None, fault=Refuse(2, "ENOMEM")),
        FaultStatus(device=None, fault=Delay(0.5)),
        FaultStatus(device=device, fault=Lose(2)),
    ]
    await cause(tester, Clear(), device)
    assert len((await tester.ask(StatusOf())).faults) == 2
    await cause(tester, Clear())
    assert (await tester.ask(StatusOf())).faults == []


async def test_a_user_sees_the_mounts_faults_and_no_other_users(
    faulty: Served, tester: Peer
) -> None:
    _, device = await watching(faulty)
    await cause(tester, Lose(1), device)
    await cause(tester, Delay(1))
    stranger = Credentials(pid=2, uid=1001, gid=1001)
    assert faulty.server.status(stranger, 1).faults == [FaultStatus(device=None, fault=Delay(1))]


async def test_a_fault_is_a_fence(faulty: Served, tester: Peer) -> None:
    peer, device = await watching(faulty)
    faulty.tree.on_fence = lambda: faulty.tree.make("before")
    await cause(tester, Lose(1), device)
    faulty.tree.on_fence = None
    faulty.tree.make("lost")
    assert await queued(peer, device) == [created(b"before")]
