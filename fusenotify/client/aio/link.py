# SPDX-License-Identifier: GPL-2.0-or-later
"""The async client's socket: sends requests, receives answers for all tasks.

protocol.connection numbers the requests and matches the answers;
client.calls says what is asked.  No task runs in the background:
whoever waits for an answer while nobody receives does so for all.

Invariants
    Frames are sent whole and one at a time, also where the sender is cancelled.
    At most one task receives.
    A read that is cancelled loses no event: what comes stays for the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.abc

from fusenotify.client.calls import ask
from fusenotify.client.common import (
    HELLO_SECONDS,
    RECEIVE_SIZE,
    client_closed,
    connect_refusal,
    no_answer,
)
from fusenotify.protocol.connection import Call, ClientConnection, Unread
from fusenotify.protocol.messages import (
    VERSION,
    AnyRequest,
    Hello,
    Welcome,
)

T = TypeVar("T")


class Link:
    """A connection whose socket is connected.  name is the socket's, for messages."""

    welcome: Welcome

    def __init__(self, name: str, stream: anyio.abc.ByteStream) -> None:
        self._connection = ClientConnection(name)
        self._stream = stream
        self._sending = anyio.Lock()
        self._receiving = False
        self._received = anyio.Event()

    async def hello(self) -> None:
        """Say hello; this comes first.

        Raises OSError, ConnectionLost, RemoteProtocolError.
        """
        self.welcome = await ask(self, Hello(version=VERSION), Welcome)
        self._connection.welcomed(self.welcome)

    async def close(self) -> None:
        """Close the socket; who waits for an answer gets EBADF."""
        self._connection.fail(client_closed())
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()

    async def send(self, request: AnyRequest, unread: Unread | None = None) -> Call:
        """Send a request and return its call, to wait for."""
        async with self._sending:
            call, frame = self._connection.ask(request, unread)
            await self._transmit(frame)
        return call

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Return what take() gives of a call, as soon as it gives something."""
        try:
            while (taken := take()) is None:
                if self._receiving:
                    await self._received.wait()
                else:
                    await self._receive()
            return taken
        except BaseException:
            await self.give_up(call)
            raise

    async def give_up(self, call: Call) -> None:
        """Want no answer to a call any more; nothing where all were had."""
        frame = self._connection.give_up(call)
        if frame is not None:
            with anyio.CancelScope(shield=True):
                async with self._sending:
                    await self._transmit(frame)

    async def _transmit(self, frame: bytearray) -> None:
        # A frame that is cut would spoil all that follow.
        with anyio.CancelScope(shield=True):
            # The socket's end is told by receiving, behind what the server said last.
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._stream.send(bytes(frame))

    async def _receive(self) -> None:
        """Receive for all."""
        self._receiving = True
        data = b""
        try:
            # Its end, its reset, and its being closed by another task.
            with contextlib.suppress(
                anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError
            ):
                data = await self._stream.receive(RECEIVE_SIZE)
            self._connection.receive(data)
        finally:
            self._receiving = False
            received, self._received = self._received, anyio.Event()
            received.set()


async def connect(name: str, seconds: float) -> Link:
    """Connect to the socket of that name, and say hello, within so many seconds.

    Raises OSError, ConnectionLost, RemoteProtocolError.
    """
    try:
        with anyio.fail_after(seconds):
            try:
                stream = await anyio.connect_unix(name)
            except OSError as error:
                raise connect_refusal(error, name) from None
            link = Link(name, stream)
            try:
                await link.hello()
            except BaseException:
                await link.close()
                raise
            return link
    except TimeoutError:
        raise no_answer(name) from None


class Turn:
    """One task at a time."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()

    async def take(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what work() gives, when no other task has the turn."""
        async with self._lock:
            return await work()


class Anyio:
    """The driver of the async client."""

    async def connect(self, name: str) -> Link:
        """Connect, and say hello."""
        return await connect(name, HELLO_SECONDS)

    async def sleep(self, seconds: float) -> None:
        """Return when the time passed."""
        await anyio.sleep(seconds)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return what a call gives, made in a thread of its own."""
        return await anyio.to_thread.run_sync(call)

    def turn(self) -> Turn:
        """Return a new turn."""
        return Turn()


ANYIO = Anyio()
