# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for requests without going to sleep between those of a busy stream.

pyfuse3 waits by trio: a pass through its scheduler, a sleep in epoll_wait()
and a wake-up for each request, which take longer than most requests.  fs.mount
gives pyfuse3 a trio whose wait asks /dev/fuse again for some microseconds
first, and whose lock needs no pass to be taken.  pyfuse3 looks trio up in its
module, as its asyncio support needs.

Invariants
    Where nothing comes within the time, the next waits sleep at once until
        requests come quickly again: an idle daemon uses no processor time.
    After BURST requests, or BURST_SECONDS, other tasks have their turn.
    The processor is offered to others at each look.
"""

from __future__ import annotations

import os
import select
from time import perf_counter
from types import TracebackType
from typing import Any

import trio

BURST = 32
BURST_SECONDS = 1e-3


class PollingTrio:
    """trio, as pyfuse3 uses it, with waits that look for seconds before they sleep.

    On a single processor none looks: the program that is to ask could not run.
    """

    def __init__(self, seconds: float) -> None:
        alone = len(os.sched_getaffinity(0)) == 1
        self.lowlevel = _PollingLowlevel(0.0 if alone else seconds)
        self.Lock = UnfairLock

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    def close(self) -> None:
        """Make the wait that goes on, and all later ones, end with ClosedResourceError."""
        self.lowlevel.closed = True


class _PollingLowlevel:
    """trio.lowlevel with a wait_readable() that looks first."""

    def __init__(self, seconds: float) -> None:
        self.closed = False
        self._seconds = seconds
        self._busy = False
        self._answered = 0
        self._yielded_at = 0.0
        self._poll: select.poll | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, fd: int) -> None:
        """Return when fd has a request, or its connection has ended."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
        begin = perf_counter()
        self._answered += 1
        if self._answered >= BURST or begin - self._yielded_at > BURST_SECONDS:
            await trio.lowlevel.checkpoint()
            begin = self._yielded()
        if self._busy and self._look_until(begin + self._seconds):
            return
        if self.closed:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(fd)
        self._busy = self._yielded() - begin < 2 * self._seconds

    def _look_until(self, deadline: float) -> bool:
        """Return whether a request came before the deadline."""
        assert self._poll is not None
        ready = self._poll.poll
        while not ready(0):
            if perf_counter() > deadline:
                self._busy = False
                return False
            os.sched_yield()
        return True

    def _yielded(self) -> float:
        self._answered = 0
        self._yielded_at = perf_counter()
        return self._yielded_at


class UnfairLock:
    """A lock that its last holder may take again before those who wait.

    trio's own is handed over at each release, which takes a pass through the
    scheduler.  Here who waits is woken, and looks when the holder lets others run.
    """

    def __init__(self) -> None:
        self._locked = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._locked:
            await self._waiting.park()
        self._locked = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._locked = False
        self._waiting.unpark()
