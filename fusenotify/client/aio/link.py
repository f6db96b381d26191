# SPDX-License-Identifier: GPL-2.0-or-later
"""The async client's socket: sends requests, receives answers for all tasks.

protocol.connection numbers the requests and matches the answers;
client.aio.syscalls says what is asked.  No task runs in the background:
whoever waits for an answer while nobody receives does so for all.

Invariants
    Frames are sent whole and one at a time, also where the sender is cancelled.
    At most one task receives.
    A read that is cancelled loses no event: what comes stays for the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.abc

from fusenotify.client.common import RECEIVE_SIZE, client_closed
from fusenotify.protocol.connection import Call, ClientConnection, Unread
from fusenotify.protocol.messages import (
    VERSION,
    AnyAnswer,
    AnyRequest,
    Hello,
    Welcome,
)

A = TypeVar("A", bound=AnyAnswer)
T = TypeVar("T")


class Link:
    """A connection whose socket is connected.  name is the socket's, for messages."""

    def __init__(self, name: str, stream: anyio.abc.ByteStream) -> None:
        self._connection = ClientConnection(name)
        self._stream = stream
        self._sending = anyio.Lock()
        self._receiving = False
        self._received = anyio.Event()

    async def hello(self) -> Welcome:
        """Say hello; this comes first.

        Raises OSError, ConnectionLost, RemoteProtocolError.
        """
        welcome = await self.ask(Hello(version=VERSION), Welcome)
        self._connection.welcomed(welcome)
        return welcome

    async def close(self) -> None:
        """Close the socket; who waits for an answer gets EBADF."""
        self._connection.fail(client_closed())
        await self._stream.aclose()

    async def ask(self, request: AnyRequest, expected: type[A]) -> A:
        """Send a request and return its answer.

        Raises OSError for a refusal, ConnectionLost, RemoteProtocolError.
        """
        call = await self.send(request)
        return await self.wait(call, partial(call.take, expected))

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
