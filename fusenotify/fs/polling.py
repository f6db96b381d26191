# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for requests without sleeping between the requests of a busy stream.

pyfuse3 waits with trio: each request takes a pass through the scheduler, a sleep
in epoll_wait() and a wake-up, which take longer than most requests.  fs.mount
gives pyfuse3 a trio whose wait first looks at /dev/fuse for some microseconds, and
whose lock is taken without a pass through the scheduler.  This works because
pyfuse3 looks trio up in its module, which its asyncio support needs.  Versions that
were not TRIED are left alone, and so is their first exchange.  fs.negotiation makes
the first two waits.

Invariants
    If no request comes within the time, the next waits sleep at once until
        requests come quickly again: an idle daemon uses no processor time.
    After BURST requests, or BURST_SECONDS, other tasks have their turn.
    Each look offers the processor to other processes, so that with a single
        processor a program can run and make its next request.
"""

from __future__ import annotations

import errno
import logging
import os
import select
from time import perf_counter
from types import TracebackType
from typing import Any

import trio

from fusenotify.fs.negotiation import LESS, Negotiation

log = logging.getLogger(__name__)

# The versions of pyfuse3 with which this and fs.negotiation, which use its internals, were tried.
TRIED = ("3.5.0",)

# Longer bursts make watched programs no faster (docs/reference/performance.md), and all clients
# wait for the end of a burst.
BURST = 32
BURST_SECONDS = 1e-3


class PollingTrio:
    """trio, for pyfuse3, with waits that look for so many seconds before they sleep."""

    def __init__(self, seconds: float) -> None:
        self._polling = _PollingLowlevel(seconds)
        self.lowlevel: _Lowlevel = self._polling
        self.Lock = UnfairLock

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    def negotiate(self, negotiation: Negotiation) -> None:
        """Let fs.negotiation make the first exchange, which has not begun yet."""
        self.lowlevel = _NegotiatingLowlevel(self, negotiation)

    def go_on(self) -> None:
        """End the first exchange."""
        self.lowlevel = self._polling

    def close(self) -> None:
        """Make the present wait and all later ones raise ClosedResourceError."""
        self._polling.closed = True


class _Lowlevel:
    """trio.lowlevel, except for the functions that a subclass has."""

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, fd: int) -> None:
        """Wait until fd has a request, or its connection has ended."""
        await trio.lowlevel.wait_readable(fd)


class _NegotiatingLowlevel(_Lowlevel):
    """The two waits of the first exchange: before its request, and after its answer."""

    def __init__(self, waits: PollingTrio, negotiation: Negotiation) -> None:
        self._waits = waits
        self._negotiation = negotiation

    async def wait_readable(self, fd: int) -> None:
        if self._negotiation.begun:
            if not self._negotiation.end(fd):
                return  # there is still something to read
            self._waits.go_on()
            await self._waits.lowlevel.wait_readable(fd)
            return
        await trio.lowlevel.wait_readable(fd)
        try:
            self._negotiation.begin(fd)
        except OSError as error:
            if error.errno != errno.ENODEV:  # unmounted already, which pyfuse3 will notice
                log.warning("%s: %s", LESS, error)
            self._waits.go_on()


class _PollingLowlevel(_Lowlevel):
    """trio.lowlevel with a wait_readable() that looks first."""

    def __init__(self, seconds: float) -> None:
        self.closed = False
        self._seconds = seconds
        self._busy = False
        self._answered = 0
        self._yielded_at = 0.0
        self._ready: Any = None

    async def wait_readable(self, fd: int) -> None:
        begin = perf_counter()
        if self._busy:
            self._answered += 1
            if self._answered >= BURST or begin - self._yielded_at > BURST_SECONDS:
                await trio.lowlevel.checkpoint()
                begin = self._yielded()
            if self._look_until(begin + self._seconds):
                return
            self._busy = False
        if self.closed:
            raise trio.ClosedResourceError
        if self._ready is None:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            self._ready = poll.poll
        await trio.lowlevel.wait_readable(fd)
        self._busy = self._yielded() - begin < 2 * self._seconds

    def _look_until(self, deadline: float) -> bool:
        """Return whether a request came before the deadline."""
        ready = self._ready
        while not ready(0):
            if perf_counter() > deadline:
                return False
            os.sched_yield()
        return True

    def _yielded(self) -> float:
        self._answered = 0
        self._yielded_at = perf_counter()
        return self._yielded_at


class UnfairLock:
    """A lock that its last holder may take again before waiting tasks get it.

    trio's lock is handed over at each release, which takes a pass through the
    scheduler.  Here a waiting task is woken, and tries when the holder lets others run.
    """

    def __init__(self) -> None:
        self._locked = False
        self._parked = 0
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        if self._locked:
            self._parked += 1
            try:
                while self._locked:
                    await self._waiting.park()
            finally:
                self._parked -= 1
        self._locked = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._locked = False
        if self._parked:
            self._waiting.unpark()
