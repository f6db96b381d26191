# SPDX-License-Identifier: GPL-2.0-or-later
"""What the clients' logic asks of the world: a connection, time, a turn.

client.calls and client.watching are the logic, written once, as coroutines.
client.link has what they ask for with blocking calls and threads, so that its
coroutines never wait for an event loop, and run() carries one out at once;
client.aio.link has it for asyncio and trio, which carry them out themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from fusenotify.protocol.connection import Call, Unread
from fusenotify.protocol.messages import AnyRequest, Welcome

T = TypeVar("T")


class Link(Protocol):
    """A connection that was welcomed.  welcome is what the daemon said."""

    welcome: Welcome

    async def send(self, request: AnyRequest, unread: Unread | None = None) -> Call:
        """Send a request and return its call, to wait for."""

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Return what take() gives of a call, as soon as it gives something.

        Raises what take() raises.  Where it ends by an exception the call is
        given up.
        """

    async def give_up(self, call: Call) -> None:
        """Want no answer to a call any more; nothing where all were had."""

    async def close(self) -> None:
        """Close the socket; who waits for an answer gets EBADF."""


class Turn(Protocol):
    """One at a time."""

    async def take(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what work() gives, when nobody else has the turn."""


class Driver(Protocol):
    """Threads and blocking calls, or an event loop."""

    async def connect(self, name: str) -> Link:
        """Connect to the socket of that name, and say hello.

        Raises OSError: as connect(2), ETIMEDOUT where nobody answers,
        EPROTONOSUPPORT where the daemon speaks another version.
        """

    async def sleep(self, seconds: float) -> None:
        """Return when the time passed."""

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return what a call gives that may block, without blocking others."""

    def turn(self) -> Turn:
        """Return a new turn, which nobody has."""


def run(steps: Coroutine[Any, Any, T]) -> T:
    """Carry out what never waits for an event loop, and return what it gives."""
    try:
        steps.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("with the blocking driver nothing waits for an event loop")
