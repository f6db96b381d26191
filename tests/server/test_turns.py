# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns: of one user's connections one goes on at a time, and others are not kept by it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest
import trio

from fusenotify.credentials import Credentials
from fusenotify.engine.core import Inode
from fusenotify.masks import IN_CREATE
from fusenotify.protocol.messages import AddWatch
from fusenotify.server import turns as turns_module
from fusenotify.server.turns import Turns
from tests.server.conftest import Served
from tests.server.memory_tree import MemoryTree
from tests.server.peer import Peer

ANN, BEN = Credentials(1, 4001, 4001), Credentials(2, 4002, 4002)
ROOT = Credentials(3, os.geteuid(), 0)


class Passes(trio.abc.Instrument):
    """Counts the passes of trio's scheduler."""

    number = 0

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1


async def passes_of(*connections: Credentials) -> list[tuple[int, int]]:
    """Have each connection take two turns; return in which pass each came, and whose."""
    turns, passes = Turns(), Passes()
    taken: list[tuple[int, int]] = []

    async def take(who: Credentials) -> None:
        for _ in range(2):
            await turns.take(who)
            taken.append((passes.number, who.uid))

    with contextlib.ExitStack() as stack:
        for who in connections:
            stack.enter_context(turns.connected(who))
        trio.lowlevel.add_instrument(passes)
        async with trio.open_nursery() as nursery:
            for who in connections:
                nursery.start_soon(take, who)
        trio.lowlevel.remove_instrument(passes)
    return taken


@pytest.mark.trio
async def test_of_a_users_connections_one_goes_on_in_a_pass() -> None:
    taken = await passes_of(*[ANN] * 20)
    assert len({number for number, _ in taken}) == len(taken) == 40


@pytest.mark.trio
async def test_of_a_users_watches_one_is_added_in_a_pass(
    served: Served, tree: MemoryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolving a path may take milliseconds."""
    passes, added = Passes(), list[int]()

    def resolved(*args: Any, **options: Any) -> contextlib.AbstractContextManager[Inode]:
        added.append(passes.number)
        return really_resolved(*args, **options)

    async def add_many(peer: Peer, device: int) -> None:
        for _ in range(5):
            await peer.ask(AddWatch(device=device, path=b"/", mask=IN_CREATE))

    really_resolved = tree.resolved
    monkeypatch.setattr(tree, "resolved", resolved)
    monkeypatch.setattr(turns_module, "is_privileged", lambda who: False)
    peers = [await served.connect() for _ in range(10)]
    devices = [await peer.device() for peer in peers]
    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        for peer, device in zip(peers, devices, strict=True):
            nursery.start_soon(add_many, peer, device)
    trio.lowlevel.remove_instrument(passes)
    assert len(set(added)) == len(added) == 50


@pytest.mark.trio
async def test_others_have_their_turns_meanwhile() -> None:
    taken = await passes_of(*[ANN] * 20, BEN)
    assert max(number for number, uid in taken if uid == BEN.uid) <= 5


@pytest.mark.trio
async def test_the_daemons_user_goes_when_it_likes() -> None:
    taken = await passes_of(*[ROOT] * 20)
    assert max(number for number, _ in taken) <= 5


@pytest.mark.trio
async def test_users_who_have_left_are_not_remembered() -> None:
    turns = Turns()
    with turns.connected(ANN), turns.connected(ANN):
        await turns.take(ANN)
    assert not turns._users
    await turns.take(ANN)
