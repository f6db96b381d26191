# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client's socket: sends requests, receives answers for all threads.

protocol.connection numbers the requests and matches the answers;
client.calls says what is asked.  Whoever waits for an answer while nobody
receives does so for all (the leader); the others wait for what it brings.

Invariants
    Frames are sent whole and one at a time.
    At most one thread receives.
    Who gives up (KeyboardInterrupt, a generator that is closed) loses no
        event: what comes stays for the next read.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fusenotify.client.calls import ask
from fusenotify.client.common import (
    HELLO_SECONDS,
    RECEIVE_SIZE,
    client_closed,
    connect_refusal,
    no_answer,
)
from fusenotify.protocol.connection import Call, ClientConnection, ConnectionLost, Unread
from fusenotify.protocol.messages import (
    VERSION,
    AnyRequest,
    Hello,
    Welcome,
)

T = TypeVar("T")


class Link:
    """A connection that was welcomed.  welcome is what the daemon said."""

    welcome: Welcome

    def __init__(self, name: str) -> None:
        self._connection = ClientConnection(name)
        # Both may be taken again by the thread that has them: the collector
        # may close a generator anywhere, and that sends a frame.
        self._changed = threading.Condition(threading.RLock())
        self._sending = threading.RLock()
        self._receiving = False
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    async def connect(self, name: str) -> None:
        """Connect to the socket of that name, and say hello.

        Raises OSError, ConnectionLost, RemoteProtocolError.
        """
        try:
            self._socket.settimeout(HELLO_SECONDS)
            self._connect(name)
            self.welcome = await ask(self, Hello(version=VERSION), Welcome)
            self._connection.welcomed(self.welcome)
            self._socket.settimeout(None)
        except TimeoutError:
            await self.close()
            raise no_answer(name) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the socket; who waits for an answer gets EBADF."""
        with self._changed:
            self._connection.fail(client_closed())
        with contextlib.suppress(OSError):  # it may not be connected any more
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who receives or sends
        with self._sending, self._changed:
            self._closed = True
            if not self._receiving:
                self._socket.close()

    async def send(self, request: AnyRequest, unread: Unread | None = None) -> Call:
        """Send a request and return its call, to wait for."""
        with self._sending:
            with self._changed:
                call, frame = self._connection.ask(request, unread)
            self._transmit(frame)
        return call

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Return what take() gives of a call, as soon as it gives something."""
        try:
            with self._changed:
                while (taken := take()) is None:
                    if self._receiving:
                        self._changed.wait()
                    else:
                        self._receive()
                return taken
        except BaseException:
            await self.give_up(call)
            raise

    async def give_up(self, call: Call) -> None:
        """Want no answer to a call any more; nothing where all were had."""
        with self._sending:
            with self._changed:
                frame = self._connection.give_up(call)
            if frame is not None:
                self._transmit(frame)

    def _connect(self, name: str) -> None:
        try:
            self._socket.connect(name)
        except TimeoutError:
            raise
        except OSError as error:
            raise connect_refusal(error, name) from None

    def _transmit(self, frame: bytearray) -> None:
        try:
            self._socket.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the server said last is still to be received, and then its end
        except BaseException:
            # The frame may be cut, and what follows would be read as its rest.
            with self._changed:
                self._connection.fail(
                    ConnectionLost(errno.ECONNRESET, "a request was interrupted while it was sent")
                )
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            raise

    def _receive(self) -> None:
        """Receive for all.  The caller holds _changed, which is let go meanwhile."""
        self._receiving = True
        self._changed.release()
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            raise
        except OSError:
            data = b""  # reset, or shut down by close()
        finally:
            self._changed.acquire()
            self._receiving = False
            self._changed.notify_all()
            if self._closed:
                self._socket.close()
        self._connection.receive(data)


class Turn:
    """One thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def take(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what work() gives, when no other thread has the turn."""
        with self._lock:
            return await work()


class Blocking:
    """The driver of the blocking client."""

    async def connect(self, name: str) -> Link:
        """Connect, and say hello."""
        link = Link(name)
        await link.connect(name)
        return link

    async def sleep(self, seconds: float) -> None:
        """Return when the time passed."""
        time.sleep(seconds)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return what a call gives, made in this thread."""
        return call()

    def turn(self) -> Turn:
        """Return a new turn."""
        return Turn()


BLOCKING = Blocking()
