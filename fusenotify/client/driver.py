# SPDX-License-Identifier: GPL-2.0-or-later
"""The interface through which the clients' logic connects, sleeps and takes turns.

client.calls and client.watching are the logic, written once, as coroutines.
client.link implements the interface with blocking calls and threads: its
coroutines never wait for an event loop, so run() completes one at once.
client.aio.link implements it for asyncio and trio, which run the coroutines.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import starmap
from operator import methodcaller
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from fusenotify.protocol.connection import Call, Descriptor
from fusenotify.protocol.messages import AnyAnswer, AnyRequest, Welcome
from fusenotify.protocol.unread import AnyUnread

A = TypeVarTuple("A")
T = TypeVar("T")


class Link(Protocol):
    """A connection after the hello.  welcome is the daemon's answer to it."""

    welcome: Welcome

    def send(
        self,
        request: AnyRequest,
        unread: AnyUnread | None = None,
        on_answer: Callable[[AnyAnswer], object] | None = None,
        descriptor: Descriptor | None = None,
    ) -> Call:
        """Send a request as soon as the socket takes it, and return its call.

        unread, on_answer and descriptor are those of ClientConnection.ask().
        """

    def say(self, request: AnyRequest) -> None:
        """Send a request whose answer nobody waits for, at once or with the next request."""

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Wait until take() returns something other than None for the call, and return that.

        Raises what take() raises.  The call is given up if an exception ends the wait.
        """

    def give_up(self, call: Call) -> None:
        """Drop a call, whose answer is no longer wanted; do nothing if it was fully answered.

        Finalisers may call this at any point.
        """

    def put_back(self, call: Call) -> None:
        """Put back records that a call took but that reached no caller."""

    def is_in_use_here(self) -> bool:
        """Return whether a handler runs that interrupted a call of this thread."""

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 if it is closed."""

    def close(self) -> None:
        """Close the socket; callers that wait for an answer get EBADF."""


class Turn(Protocol):
    """A lock: only one caller at a time has the turn."""

    async def take(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for the turn, and return the result of work(), which runs during it."""


class Driver(Protocol):
    """Threads and blocking calls, or an event loop."""

    async def connect(self, name: str) -> Link:
        """Connect to the socket of that name, and say hello.

        Raises OSError: as connect(2), ETIMEDOUT if nobody answers,
        EPROTONOSUPPORT if the daemon speaks another version.
        """

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return the result of a call that may block, without blocking other tasks."""

    def turn(self) -> Turn:
        """Return a new turn, which is free."""


def run(work: Callable[[Unpack[A]], Coroutine[Any, Any, T]], *arguments: *A) -> T:
    """Run a coroutine that never waits for an event loop, and return its result."""
    try:
        # Made and begun in one step: an exception from outside leaves no coroutine unawaited.
        next(map(_BEGIN, starmap(work, (arguments,))))
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("with the blocking driver nothing waits for an event loop")


_BEGIN: Callable[[Coroutine[Any, Any, Any]], object] = methodcaller("send", None)
