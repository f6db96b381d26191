# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests about the journal take turns: whoever makes many of them keeps nobody else waiting."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from fusenotify.bits import IN_CREATE
from fusenotify.engine.core import Inode
from fusenotify.history.bounds import Bounds
from fusenotify.history.entries import Entry
from fusenotify.history.journal import Journal
from fusenotify.history.store import Store
from fusenotify.protocol.codec import answer_decoder, encode
from fusenotify.protocol.messages import MAX_READ, Past, Since
from fusenotify.server import history as history_module
from fusenotify.server.history import Asking, History, Pending
from fusenotify.server.turns import Turns
from fusenotify.server.visible import Visible
from tests.server.memory_tree import MemoryTree
from tests.server.test_turns import ANN, BEN, Passes

BEGIN = Since(id=1, cursor="begin", path=b"/", size=MAX_READ, timeout=None)


@pytest.fixture
def history(tmp_path: Path, tree: MemoryTree) -> Iterator[History]:
    """A journal of 30 entries in three batches."""
    store = Store(bytes(tmp_path / "journal"), b"/srv/x", Bounds(age=None))
    for first in (1, 11, 21):
        store.append([Entry(n, n, IN_CREATE, b"%d" % n) for n in range(first, first + 10)])
    journal = Journal(tree.core, store)
    yield History(journal, tree, Turns(), tree.table)
    journal.close()


def frame_of(past: Past) -> bytearray:
    return encode(past)


@pytest.mark.trio
async def test_of_a_users_waiting_requests_one_is_woken_in_a_pass(history: History) -> None:
    passes = Passes()
    woken: list[tuple[str, int]] = []

    async def wait(name: str, uid: int) -> None:
        await history.user(uid).waiting.woken()
        woken.append((name, passes.number))

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(wait, "ann", ANN.uid)
        nursery.start_soon(wait, "ben", BEN.uid)
        await trio.testing.wait_all_tasks_blocked()
        history.wake()
        nursery.start_soon(wait, "late", ANN.uid)
        await trio.testing.wait_all_tasks_blocked()
        assert len(woken) == 21
        history.wake()
    trio.lowlevel.remove_instrument(passes)
    ann = [number for name, number in woken if name == "ann"]
    assert len({*ann}) == len(ann) == 20
    assert dict(woken)["ben"] <= min(ann) + 1


@pytest.mark.trio
async def test_of_a_users_requests_one_has_entries_in_memory(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging = most = 0
    judge = Visible.judge

    async def counted(visible: Visible, entries: list[Entry]) -> None:
        nonlocal judging, most
        judging += 1
        most = max(most, judging)
        await judge(visible, entries)
        judging -= 1

    monkeypatch.setattr(Visible, "judge", counted)
    frames: list[bytearray] = []

    async def ask() -> None:
        asking = Asking(history, ANN, BEGIN)
        async with asking.answer(Pending(), trio.Lock(), frame_of) as frame:
            frames.append(frame)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert (len(frames), most) == (5, 1)


@pytest.mark.trio
async def test_of_a_connections_answers_one_is_collected_and_sent(history: History) -> None:
    door = trio.Lock()
    made: list[bytearray] = []
    slow = trio.Event()

    async def ask() -> None:
        asking = Asking(history, ANN, BEGIN)
        async with asking.answer(Pending(), door, frame_of) as frame:
            made.append(frame)
            await slow.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        while not made:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(made) == 1
        slow.set()
    assert len(made) == 5


@pytest.mark.trio
async def test_an_answer_is_bounded_and_says_that_there_is_more(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "_MOST_COLLECTED", 1000)
    answers: list[Past] = []

    def keep(past: Past) -> bytearray:
        answers.append(past)
        return encode(past)

    async with Asking(history, ANN, BEGIN).answer(Pending(), trio.Lock(), keep):
        pass
    (past,) = answers
    assert [event.path for event in past.events] == [b"1", b"2", b"3", b"4", b"5"]
    assert (past.cursor, past.complete) == (past.events[-1].cursor, False)


@pytest.mark.trio
async def test_a_waiting_request_can_be_cancelled(history: History) -> None:
    end = str(history.store.cursor(history.store.last))
    pending = Pending()
    request = Since(id=1, cursor=end, path=b"/", size=MAX_READ, timeout=None)
    refusals: list[OSError] = []

    async def ask() -> None:
        try:
            async with Asking(history, ANN, request).answer(pending, trio.Lock(), frame_of):
                pass
        except OSError as refusal:
            refusals.append(refusal)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        while not history.user(ANN.uid).waiting:
            await trio.testing.wait_all_tasks_blocked(0.01)
        pending.cancel()
    assert [refusal.errno for refusal in refusals] == [errno.ECANCELED]


@pytest.mark.trio
async def test_a_directory_that_changes_hands_while_it_is_judged_shows_nothing_of_before(
    tmp_path: Path, tree: MemoryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new directory is there before its entry is written."""
    journal = Journal(tree.core, Store(bytes(tmp_path / "journal"), b"/srv/x", Bounds()))
    history = History(journal, tree, Turns(), tree.table)
    history.follow()
    journal.watch(tree.root)
    private = tree.make("/private", directory=True, readable=False)
    tree.make("/private/secret")
    tree.remove("/private/secret")
    really_resolved = tree.resolved

    def resolved(path: bytes, *args: Any, **options: Any) -> AbstractContextManager[Inode]:
        nonlocal private
        if path == b"/private" and not private.readable:
            tree.hooks.removed_directory(tree.root, b"private", private)
            private = tree.make("/private", directory=True)
        return really_resolved(path, *args, **options)

    monkeypatch.setattr(tree, "resolved", resolved)
    async with Asking(history, ANN, BEGIN).answer(Pending(), trio.Lock(), frame_of) as frame:
        (past,) = answer_decoder().feed(bytes(frame))
    journal.close()
    assert isinstance(past, Past)
    assert {event.path for event in past.events} == {b"private"}
