# SPDX-License-Identifier: GPL-2.0-or-later
"""What the clients' logic asks of the world: a connection, time, a turn.

client.calls and client.watching are the logic, written once, as coroutines.
client.link has what they ask for with blocking calls and threads, so that its
coroutines never wait for an event loop, and run() carries one out at once;
client.aio.link has it for asyncio and trio, which carry them out themselves.
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
    """A connection that was welcomed.  welcome is what the daemon said."""

    welcome: Welcome

    def send(
        self,
        request: AnyRequest,
        unread: AnyUnread | None = None,
        on_answer: Callable[[AnyAnswer], object] | None = None,
        descriptor: Descriptor | None = None,
    ) -> Call:
        """Send a request, as soon as the socket takes it, and return its call, to wait for.

        unread, on_answer and descriptor are those of ClientConnection.ask().
        """

    def say(self, request: AnyRequest) -> None:
        """Send a request whose answer nobody waits for, at once or with the next one."""

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Return what take() gives of a call, as soon as it gives something.

        Raises what take() raises.  Where it ends by an exception the call is
        given up.
        """

    def give_up(self, call: Call) -> None:
        """Want no answer to a call any more; nothing where all were had.

        Finalisers may call it, anywhere.
        """

    def put_back(self, call: Call) -> None:
        """Undo the taking of a call's records, which came to nobody."""

    def is_in_use_here(self) -> bool:
        """Return whether this thread is in the midst of a call, which a handler interrupted."""

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 where it is closed."""

    def close(self) -> None:
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


def run(work: Callable[[Unpack[A]], Coroutine[Any, Any, T]], *arguments: *A) -> T:
    """Carry out what never waits for an event loop, and return what it gives."""
    try:
        # Made and begun in one step: an exception from outside leaves no coroutine unawaited.
        next(map(_BEGIN, starmap(work, (arguments,))))
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("with the blocking driver nothing waits for an event loop")


_BEGIN: Callable[[Coroutine[Any, Any, Any]], object] = methodcaller("send", None)
