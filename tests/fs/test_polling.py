# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting without sleep: what is ready is found, the rest of the daemon has its turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

import fusenotify
from fusenotify.fs.negotiation import Negotiation
from fusenotify.fs.polling import BURST, PollingTrio, UnfairLock
from tests.cli.command import until
from tests.fs.test_negotiation import fill_up_to

SECONDS = 1.0  # so long that a wait that may look finds what is there


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.trio
async def test_a_wait_ends_when_something_comes(pipe: tuple[int, int]) -> None:
    waits = PollingTrio(SECONDS)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits.lowlevel.wait_readable, pipe[0])
            await trio.testing.wait_all_tasks_blocked()
            os.write(pipe[1], b"x")


@pytest.mark.trio
async def test_other_tasks_have_their_turn_in_a_busy_stream(pipe: tuple[int, int]) -> None:
    waits = PollingTrio(SECONDS)
    os.write(pipe[1], b"x")
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(another)
        for _ in range(
            BURST * 4
        ):  # the first wait sleeps; in the last turn the other may be behind
            await waits.lowlevel.wait_readable(pipe[0])
        nursery.cancel_scope.cancel()
    assert turns >= 2


@pytest.mark.trio
async def test_a_closed_wait_ends(pipe: tuple[int, int]) -> None:
    waits = PollingTrio(SECONDS)
    waits.close()
    with pytest.raises(trio.ClosedResourceError):
        await waits.lowlevel.wait_readable(pipe[0])


@pytest.mark.trio
async def test_if_our_first_exchange_is_impossible_libfuse_makes_it(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    waits = PollingTrio(SECONDS)
    polling = waits.lowlevel
    waits.negotiate(Negotiation())
    os.write(pipe[1], b"x")
    with ExitStack() as stack:
        fill_up_to(stack, free=0)
        await waits.lowlevel.wait_readable(pipe[0])
    assert "Too many open files" in caplog.text
    assert waits.lowlevel is polling
    assert os.read(pipe[0], 2) == b"x"


@pytest.mark.trio
async def test_the_last_holder_takes_the_lock_again_and_others_get_it_when_it_waits() -> None:
    lock = UnfairLock()
    order = []

    async def holder() -> None:
        for number in range(3):
            async with lock:
                order.append(f"holder {number}")
        await trio.testing.wait_all_tasks_blocked()
        order.append("waits")

    async def other() -> None:
        async with lock:
            order.append("other")

    async with trio.open_nursery() as nursery:
        async with lock:
            nursery.start_soon(other)
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(holder)
    assert sorted(order) == ["holder 0", "holder 1", "holder 2", "other", "waits"]
    assert order.index("other") < order.index("waits")


@pytest.mark.mount
def test_an_idle_daemon_uses_no_processor_time(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "mnt").mkdir()
    with fusenotify.mounted(tmp_path / "source", tmp_path / "mnt", poll=1000) as mount:
        for number in range(100):
            (tmp_path / "mnt" / str(number)).touch()

        def ticks() -> int:
            fields = Path(f"/proc/{mount.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        def stands_still() -> bool:
            before = ticks()
            time.sleep(0.5)  # it is how long is measured
            return ticks() == before

        until(stands_still, "the daemon uses no time for half a second")
