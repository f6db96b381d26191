# SPDX-License-Identifier: GPL-2.0-or-later
"""A client's half of a connection, without I/O: numbers requests, matches answers.

client.blocking and client.aio send the frames that it makes, hand over what
their sockets give, and ask each Call whether its answer is there.

Invariants
    An answer goes to the call whose number it bears, in the order of arrival.
    Records that come for a call that was given up go to the device's Unread,
        and from there to its next read, so that giving up loses no event.
        They come before what is asked later is answered.
    The first reason for which a connection is lost is the one that is told,
        and every call under way hears it behind the answers it has.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from itertools import count
from typing import TypeVar

from fusenotify.events import HEADER
from fusenotify.protocol.codec import answer_decoder, encode
from fusenotify.protocol.errors import ProtocolError, RemoteProtocolError
from fusenotify.protocol.messages import (
    NO_REQUEST,
    PATH_MAX,
    VERSION,
    AnyAnswer,
    AnyRequest,
    Cancel,
    Error,
    Poll,
    Read,
    Ready,
    Records,
    Stream,
    Welcome,
)

A = TypeVar("A", bound=AnyAnswer)

# Requests that the server lets wait until it is told that nobody does any more.
_WAITING = (Read, Poll, Stream)


class ConnectionLost(ConnectionResetError):
    """The daemon is gone, and with it the devices of this connection (ECONNRESET)."""


class Unread:
    """A device's records that came and were not taken, oldest first."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def put(self, records: bytes) -> None:
        """Keep records behind those that are kept."""
        self._data += records

    def take(self, size: int) -> bytes:
        """Return as many whole records as fit size bytes.

        Raises OSError (EINVAL) where the first one does not fit.
        """
        data = self._data
        end = 0
        while end < len(data):
            following = end + HEADER.size + HEADER.unpack_from(data, end)[3]
            if following > size:
                break
            end = following
        if data and not end:
            raise OSError(errno.EINVAL, f"the first record does not fit {size} bytes")
        taken = bytes(data[:end])
        del data[:end]
        return taken


class Call:
    """A request under way, and what was answered so far."""

    def __init__(
        self, connection: ClientConnection, request: AnyRequest, unread: Unread | None
    ) -> None:
        self.request = request
        self.given_up = False
        self._connection = connection
        self._unread = unread
        self._answers: deque[AnyAnswer] = deque()

    def take(self, expected: type[A]) -> A | None:
        """Return the next answer, or None as long as there is none.

        Raises OSError for a refusal, ConnectionLost (ECONNRESET) and
        RemoteProtocolError where no answer can come any more.
        """
        if not self._answers:
            self._connection.check()
            return None
        answer = self._answers.popleft()
        if isinstance(answer, Error):
            raise OSError(answer.errno, answer.message)
        if not isinstance(answer, expected):
            self._connection.fail(_unexpected(answer))
            raise _unexpected(answer)
        return answer

    def take_records(self, size: int) -> bytes | None:
        """Return the next records, or None as long as there are none.

        Those that came for calls that were given up come first; then size
        says how many may be taken at once.

        Raises as take(), and OSError (EINVAL) where the first does not fit.
        """
        if self._unread:
            return self._unread.take(size)
        answer = self.take(Records)
        return None if answer is None else answer.data

    def take_ready(self) -> bool | None:
        """Return whether there is something to read, or None as long as that is open.

        Raises as take().
        """
        if self._unread:
            return True
        answer = self.take(Ready)
        return None if answer is None else answer.ready

    def deliver(self, answer: AnyAnswer) -> None:
        """Take an answer.  The connection calls this."""
        if not self.given_up:
            self._answers.append(answer)
        elif self._unread is not None and isinstance(answer, Records):
            self._unread.put(answer.data)

    def give_up(self) -> None:
        """Want no answer any more.  The connection calls this."""
        self.given_up = True
        while self._answers:
            self.deliver(self._answers.popleft())


class ClientConnection:
    """The calls of one connection.  name is the socket's, for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decoder = answer_decoder()
        self._ids = count(1)
        self._calls: dict[int, Call] = {}
        self._lost: OSError | ProtocolError | None = None

    def ask(self, request: AnyRequest, unread: Unread | None = None) -> tuple[Call, bytearray]:
        """Return a new call and the frame to send.

        unread is where records go that come after the call was given up.

        Raises ConnectionLost (ECONNRESET), LocalProtocolError.
        """
        self.check()
        request.id = next(self._ids)
        frame = encode(request)
        call = self._calls[request.id] = Call(self, request, unread)
        return call, frame

    def welcomed(self, welcome: Welcome) -> None:
        """Check what the server says of itself.

        Raises OSError (EPROTONOSUPPORT) where it speaks another version.
        """
        if welcome.version != VERSION:
            raise OSError(
                errno.EPROTONOSUPPORT,
                f"{welcome.server} on {self._name} speaks version {welcome.version} of the "
                f"protocol, this client version {VERSION}: use the same release of both",
            )

    def give_up(self, call: Call) -> bytearray | None:
        """Want no answer to a call any more; return the frame to send, if any.

        The server is told when it would go on working for the call.
        """
        if call.given_up:
            return None
        call.give_up()
        if self._lost is not None or call.request.id not in self._calls:
            return None
        if not isinstance(call.request, _WAITING):
            return None
        cancelling, frame = self.ask(Cancel(request=call.request.id))
        cancelling.give_up()
        return frame

    def receive(self, data: bytes) -> None:
        """Take what the socket gave, b"" being its end."""
        if not data:
            self.fail(ConnectionLost(errno.ECONNRESET, f"the daemon behind {self._name} is gone"))
            return
        try:
            for answer in self._decoder.feed(data):
                self._deliver(answer)
        except RemoteProtocolError as violation:
            self.fail(violation)

    def fail(self, reason: OSError | ProtocolError) -> None:
        """Say why no answer can come any more; the first reason stays."""
        if self._lost is None:
            self._lost = reason

    def check(self) -> None:
        """Raise the reason for which the connection is lost, if it is.

        Raises OSError, ConnectionLost (ECONNRESET), RemoteProtocolError.
        """
        if self._lost is not None:
            # A new one each time: several threads may raise it.
            raise type(self._lost)(*self._lost.args)

    def _deliver(self, answer: AnyAnswer) -> None:
        if answer.id == NO_REQUEST and isinstance(answer, Error):
            self.fail(OSError(answer.errno, answer.message))
            return
        call = self._calls.get(answer.id)
        if call is None:
            raise _unexpected(answer)
        if not (isinstance(call.request, Stream) and isinstance(answer, Records)):
            del self._calls[answer.id]
        call.deliver(answer)


def wire_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    """Return a path as a request takes it.

    Raises OSError (ENAMETOOLONG).
    """
    name = os.fsencode(path)
    # The server says the same of shorter ones; these would not fit a frame.
    if len(name) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name[:64])
    return name


def _unexpected(answer: AnyAnswer) -> RemoteProtocolError:
    return RemoteProtocolError(
        errno.EPROTO, f"the server answered {answer.id} with {type(answer).__name__}, unasked"
    )
