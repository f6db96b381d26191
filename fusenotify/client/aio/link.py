# SPDX-License-Identifier: GPL-2.0-or-later
"""The async client's driver: sockets and tasks, for asyncio and trio.

protocol.connection numbers the requests and matches the answers; client.calls
makes the requests.  No task runs in the background: a task that waits for an
answer while no task receives does so for all.

Invariants
    Nothing awaits while data is on its way from the socket to the connection,
        or from the connection to the task that takes it.  So it does not matter
        where a task is cancelled, or how: by anyio's scopes, by trio's, or by
        asyncio's Task.cancel(), which ignores shields.
    What the socket does not take at once stays in the connection, and the next
        task that waits sends it; so no frame is ever sent in part only.
    At most one task receives.
    A forked process uses no connection of its parent (client.process).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from fusenotify.client.calls import ask
from fusenotify.client.common import (
    HELLO_SECONDS,
    RECEIVE_SIZE,
    client_closed,
    connect_refusal,
    is_the_sockets,
    no_answer,
    rights,
)
from fusenotify.client.process import belongs_here, foreign
from fusenotify.protocol.connection import Call, ClientConnection, Descriptor
from fusenotify.protocol.messages import VERSION, AnyAnswer, AnyRequest, Hello, Welcome
from fusenotify.protocol.unread import AnyUnread

T = TypeVar("T")

# A full socket is tried again after this time, in seconds.  The daemon may be unable to read
# from it until we receive.
_RETRY_SECONDS = 0.01


class Link:
    """A connection, which connect() establishes.  name is the path of the socket."""

    welcome: Welcome

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = belongs_here(self)
        self._connection = ClientConnection(name)
        self._receiving = False
        self._received = anyio.Event()
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)

    async def connect(self) -> None:
        """Connect, and say hello.

        Raises OSError, ConnectionLost, RemoteProtocolError.
        """
        try:
            while not self._connect_now():
                await anyio.sleep(_RETRY_SECONDS)
            self.welcome = await ask(self, Hello(version=VERSION), Welcome)
            self._connection.welcomed(self.welcome)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket; tasks that wait for an answer get EBADF."""
        if not self._process.is_this():
            self.let_go()
            return
        self._connection.fail(client_closed())
        self._closed = True
        with contextlib.suppress(OSError):  # it may not be connected any more
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the task that receives
        if not self._receiving:
            self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 if it is closed."""
        return self._socket.fileno()

    def let_go(self) -> None:
        """Close this process's copy of its parent's socket; the connection stays open."""
        self._socket.close()

    def is_in_use_here(self) -> bool:
        """Return False: a task is never interrupted between two awaits."""
        return False

    def send(
        self,
        request: AnyRequest,
        unread: AnyUnread | None = None,
        on_answer: Callable[[AnyAnswer], object] | None = None,
        descriptor: Descriptor | None = None,
    ) -> Call:
        """Send a request as soon as the socket takes it, and return its call."""
        self._check()
        self._connection.settle()
        call = self._connection.ask(request, unread, on_answer, descriptor)
        self._transmit()
        return call

    def say(self, request: AnyRequest) -> None:
        """Send a request whose answer nobody waits for."""
        if self._process.is_this():
            self._connection.say(request)
            self._connection.settle()
            self._transmit()

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Wait until take() returns something other than None for the call, and return that."""
        try:
            await anyio.lowlevel.checkpoint()
            while True:
                self._check()
                self._connection.settle()
                self._transmit()
                taken = take()
                if taken is not None:
                    return taken
                if self._receiving:
                    await self._received.wait()
                else:
                    await self._receive()
        except BaseException:
            self.give_up(call)
            raise

    def give_up(self, call: Call) -> None:
        """Drop a call, whose answer is no longer wanted; the next request tells the daemon."""
        if self._process.is_this():
            self._connection.give_up(call)

    def put_back(self, call: Call) -> None:
        """Put back records that a call took but that reached no caller."""
        call.put_back()

    def _check(self) -> None:
        if not self._process.is_this():
            raise foreign(self._process)

    def _connect_now(self) -> bool:
        """Connect; return False if too many connections are waiting to be accepted."""
        try:
            self._socket.connect(self._name)
        except BlockingIOError:
            return False
        except OSError as error:
            raise connect_refusal(error, self._name) from None
        return True

    def _transmit(self) -> None:
        """Send what the socket takes without blocking."""
        while (frame := self._connection.next_frame()) is not None:
            try:
                # One step that no exception can interrupt: sent and counted, or neither.
                frame.counts.extend(
                    map(self._socket.sendmsg, ((frame.rest(),),), (rights(frame.descriptors()),))
                )
            except BlockingIOError:
                return
            except OSError as error:
                if not is_the_sockets(error):
                    raise
                # The server's last answers are still to be received, and then the end of file.
                self._connection.drop_frames()

    async def _receive(self) -> None:
        """Receive for all tasks."""
        self._receiving = True
        try:
            if self._connection.next_frame() is None:
                await anyio.wait_readable(self._socket)
            else:
                with anyio.move_on_after(_RETRY_SECONDS):
                    await anyio.wait_readable(self._socket)
            self._check()  # the task may have been continued in a forked process
            chunks = self._connection.received
            try:
                # One step that no exception can interrupt: received and stored, or neither.
                chunks.extend(map(self._socket.recv, (RECEIVE_SIZE,)))
            except BlockingIOError:
                pass
            except OSError as error:
                if not is_the_sockets(error):
                    raise
                chunks.append(b"")
        finally:
            self._receiving = False
            if self._closed:
                self._socket.close()
            received, self._received = self._received, anyio.Event()
            received.set()


async def connect(name: str, seconds: float) -> Link:
    """Connect to the socket of that name, and say hello, within so many seconds.

    Raises OSError (ETIMEDOUT if the time passed), ConnectionLost, RemoteProtocolError.
    """
    try:
        with anyio.fail_after(seconds):
            link = Link(name)
            await link.connect()
            return link
    except TimeoutError:
        raise no_answer(name) from None


class Turn:
    """A lock: only one task at a time has the turn."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()

    async def take(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for the turn, and return the result of work(), which runs during it."""
        async with self._lock:
            return await work()


class Anyio:
    """The driver of the async client."""

    async def connect(self, name: str) -> Link:
        """Connect, and say hello."""
        return await connect(name, HELLO_SECONDS)

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await anyio.sleep(seconds)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return the result of call(), which runs in a thread of its own."""
        return await anyio.to_thread.run_sync(call)

    def turn(self) -> Turn:
        """Return a new turn."""
        return Turn()


ANYIO = Anyio()
