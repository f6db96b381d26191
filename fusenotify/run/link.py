# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to a daemon for the supervisor's event loop: a driver for client.calls.

The async client's driver (client.aio.link) runs on any event loop, and passes answers from task
to task.  This one is made for short waits: a daemon answers most requests within a tenth of a
millisecond, sooner than a pass through the event loop would find out.  So wait() receives by
itself at first; only later is the answer left to the event loop.

Invariants
    Nobody blocks the loop longer than _AT_ONCE_MS for an answer.
    A call in _waiting is told once: of its answer, or of the connection's loss.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

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
# How long to wait for an answer before other work is done, in milliseconds.
_AT_ONCE_MS = 2


class Link:
    """A connection, made by connected().  welcome is the daemon's first message."""

    welcome: Welcome

    def __init__(self, name: str, connected: socket.socket) -> None:
        self._socket = connected
        self._connection = ClientConnection(name)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, Callable[[], object]] = {}  # by the request's id
        self._answered: list[int] = []
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
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
        heard = partial(self._heard, on_answer)
        call = self._connection.ask(request, unread, heard, descriptor)
        self._transmit()
        return call

    def say(self, request: AnyRequest) -> None:
        """Send a request without waiting for an answer."""
        self._connection.say(request)
        self._connection.settle()
        self._transmit()

    async def wait(
        self, call: Call, take: Callable[[], T | None], seconds: float | None = None
    ) -> T:
        """Wait until the call is answered, and return take(), which is not None then.

        Raises TimeoutError if no answer comes within a number of seconds, and what take() raises.
        """
        if not self._is_answered_at_once(call):
            future: asyncio.Future[None] = self._loop.create_future()
            self.when_answered(call, partial(_end, future))
            try:
                async with asyncio.timeout(seconds):
                    await future
            except BaseException:
                self._waiting.pop(call.request.id, None)
                self.give_up(call)
                raise
        taken = take()
        assert taken is not None
        return taken

    def when_answered(self, call: Call, tell: Callable[[], object]) -> None:
        """Call tell() when the call is answered, or when no answer can come any more."""
        self._waiting[call.request.id] = tell

    def give_up(self, call: Call) -> None:
        """Give up a call's answer; the daemon is told with the next request."""
        self._connection.give_up(call)

    def put_back(self, call: Call) -> None:
        """Put back the records that were taken from a call and reached nobody."""
        call.put_back()

    def is_in_use_here(self) -> bool:
        """Return False: a call is never interrupted between two awaits."""
        return False

    def check(self) -> None:
        """Raise the reason, an OSError or a ProtocolError, if the connection is lost."""
        self._connection.check()

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

    def _is_answered_at_once(self, call: Call) -> bool:
        """Wait for an answer as long as nothing else is done.

        Returns whether it has come, or cannot come any more.
        """
        until = time.monotonic() + _AT_ONCE_MS / 1000
        while call.answer is None and not self._is_lost():
            if time.monotonic() > until or not self._poll.poll(_AT_ONCE_MS):
                return False
            self._receive()
        return True

    def _is_lost(self) -> bool:
        try:
            self._connection.check()
        except Exception:  # whoever asks for an answer gets it
            return True
        return False

    def _heard(self, tell: Callable[[AnyAnswer], object] | None, answer: AnyAnswer) -> None:
        if tell is not None:
            tell(answer)
        self._answered.append(answer.id)

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
        """Tell of the answers that have come."""
        answered, self._answered = self._answered, []
        for number in list(self._waiting) if self._is_lost() else answered:
            tell = self._waiting.pop(number, None)
            if tell is not None:
                tell()

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


def _end(waited: asyncio.Future[None]) -> None:
    if not waited.done():
        waited.set_result(None)


def _connect(sock: socket.socket, name: str) -> bool:
    """Connect; return False if too many other clients are connecting."""
    try:
        sock.connect(name)
    except BlockingIOError:
        return False
    except OSError as error:
        raise connect_refusal(error, name) from None
    return True
