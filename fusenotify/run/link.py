# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to a daemon for the supervisor's event loop: a driver for client.calls.

In the async client's driver (client.aio.link), which runs on any event loop, one of the waiting
tasks receives for the others.  In the supervisor each device is polled all the time, so answers
would be passed from task to task.  This driver has one reader for the socket, which gives each
task its answer.

Invariant
    Every waiting task has a future in _waiting; all of them are checked after each receive.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from fusenotify.client.calls import ask
from fusenotify.client.common import (
    HELLO_SECONDS,
    RECEIVE_SIZE,
    client_closed,
    connect_refusal,
    no_answer,
    rights,
)
from fusenotify.protocol.connection import Call, ClientConnection, Descriptor
from fusenotify.protocol.messages import VERSION, AnyAnswer, AnyRequest, Hello, Welcome
from fusenotify.protocol.unread import AnyUnread

T = TypeVar("T")

# The pause before another attempt if too many clients are connecting.
_RETRY_SECONDS = 0.01


class Link:
    """A connection, made by connected().  welcome is the daemon's first message."""

    welcome: Welcome

    def __init__(self, name: str, connected: socket.socket) -> None:
        self._socket = connected
        self._connection = ClientConnection(name)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Future[Any], Callable[[], object]] = {}
        self._is_full = False
        self._loop.add_reader(self._socket, self._receive)

    @classmethod
    async def connected(cls, name: str) -> Link:
        """Connect to the socket with a name, and exchange the first messages.

        Raises OSError: as connect(2), ETIMEDOUT if the daemon does not answer, EPROTONOSUPPORT if
        it speaks another version; RemoteProtocolError.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                while not _connect(sock, name):
                    await asyncio.sleep(_RETRY_SECONDS)
                link = cls(name, sock)
                link.welcome = await ask(link, Hello(version=VERSION), Welcome)
                link._connection.welcomed(link.welcome)
                return link
        except TimeoutError:
            sock.close()
            raise no_answer(name) from None
        except BaseException:
            sock.close()
            raise

    def send(
        self,
        request: AnyRequest,
        unread: AnyUnread | None = None,
        on_answer: Callable[[AnyAnswer], object] | None = None,
        descriptor: Descriptor | None = None,
    ) -> Call:
        """Send a request as soon as the socket takes it, and return its call, to be awaited."""
        self._connection.settle()
        call = self._connection.ask(request, unread, on_answer, descriptor)
        self._transmit()
        return call

    def say(self, request: AnyRequest) -> None:
        """Send a request without waiting for an answer."""
        self._connection.say(request)
        self._connection.settle()
        self._transmit()

    async def wait(self, call: Call, take: Callable[[], T | None]) -> T:
        """Wait until take() returns something other than None, and return that."""
        taken = take()
        if taken is not None:
            return taken
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting[future] = take
        try:
            return await future
        except BaseException:
            self.give_up(call)
            raise
        finally:
            self._waiting.pop(future, None)

    def give_up(self, call: Call) -> None:
        """Give up a call's answer; the daemon is told with the next request."""
        self._connection.give_up(call)

    def put_back(self, call: Call) -> None:
        """Put back the records that were taken from a call and reached nobody."""
        call.put_back()

    def is_in_use_here(self) -> bool:
        """Return False: a call is never interrupted between two awaits."""
        return False

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 if it is closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; tasks that wait for an answer get OSError (EBADF)."""
        self._connection.fail(client_closed())
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
        self._tell()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._connection.received.append(data)
        self._connection.settle()
        self._transmit()
        self._tell()
        if not data:
            self._loop.remove_reader(self._socket)

    def _tell(self) -> None:
        """Give the waiting tasks the answers that have come."""
        for future, take in list(self._waiting.items()):
            if future.done():
                continue
            try:
                taken = take()
            except Exception as error:
                future.set_exception(error)
            else:
                if taken is not None:
                    future.set_result(taken)

    def _transmit(self) -> None:
        """Send what the socket takes now, and the rest when it takes more."""
        while (frame := self._connection.next_frame()) is not None:
            try:
                sent = self._socket.sendmsg((frame.rest(),), rights(frame.descriptors()))
            except BlockingIOError:
                if not self._is_full:
                    self._is_full = True
                    self._loop.add_writer(self._socket, self._transmit)
                return
            except OSError:
                # What the server said last is still to be received, and then its end.
                self._connection.drop_frames()
                return
            frame.counts.append(sent)
        if self._is_full:
            self._is_full = False
            self._loop.remove_writer(self._socket)


def _connect(sock: socket.socket, name: str) -> bool:
    """Connect; return False if too many other clients are connecting."""
    try:
        sock.connect(name)
    except BlockingIOError:
        return False
    except OSError as error:
        raise connect_refusal(error, name) from None
    return True
