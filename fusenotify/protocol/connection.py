# SPDX-License-Identifier: GPL-2.0-or-later
"""A client's half of a connection, without I/O: it numbers requests and matches answers.

client.link and client.aio.link send the frames made here, pass on the bytes that
they receive, and ask each Call whether its answer has arrived.

Invariants
    Answers go to the call with their number, in the order of arrival, and
        on_answer is called then: a table that an answer fills is complete
        before a later answer can name something in it.
    A device's records and events go to its Unread, whichever call asked for
        them, and reads take them from there; so giving up a read loses no
        event.
    Only the first reason for the loss of a connection is kept, and each call
        under way raises it after the answers that the call has got.
    An exception from outside (a signal handler's) may strike anywhere.  Received
        bytes are stored in one step, and their processing can be begun again:
        settle() goes on where it was interrupted.
    give_up() and say() may be called at any point, even by the garbage
        collector: they only add to a list of notes, which settle() carries out.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from fusenotify.protocol.codec import answer_decoder, check_request, encode
from fusenotify.protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from fusenotify.protocol.messages import (
    NO_REQUEST,
    PATH_MAX,
    VERSION,
    AnyAnswer,
    AnyRequest,
    Cancel,
    Close,
    DeviceMade,
    Error,
    Events,
    Poll,
    Read,
    Ready,
    Records,
    Since,
    Stream,
    Welcome,
)
from fusenotify.protocol.unread import AnyUnread

A = TypeVar("A", bound=AnyAnswer)

# Requests that wait in the server until they are cancelled.
_WAITING = (Read, Poll, Stream, Since)


class ConnectionLost(ConnectionResetError):
    """The daemon is gone, and so are the devices of this connection (ECONNRESET)."""


@runtime_checkable
class Descriptor(Protocol):
    """A descriptor that is passed with a request.  It stays open while this object exists."""

    number: int


class Frame:
    """A request on its way out.

    descriptor is passed with its first bytes.  counts has the number of bytes that
    each send took; a link adds to it in the same step in which it sends, which no
    exception can interrupt.
    """

    __slots__ = ("_data", "_descriptor", "counts")

    def __init__(self, data: bytes, descriptor: Descriptor | None) -> None:
        self._data = data
        self._descriptor = descriptor
        self.counts: list[int] = []

    def rest(self) -> bytes:
        """Return the bytes that are still to be sent."""
        return self._data[sum(self.counts) :] if self.counts else self._data

    def descriptors(self) -> list[int]:
        """Return the descriptors to pass with the rest."""
        return [] if self._descriptor is None or self.counts else [self._descriptor.number]

    def is_sent(self) -> bool:
        """Return whether all bytes were sent."""
        return bool(self.counts) and sum(self.counts) == len(self._data)


class Call:
    """A request under way, with its answers so far."""

    def __init__(
        self,
        connection: ClientConnection,
        request: AnyRequest,
        unread: AnyUnread | None,
        on_answer: Callable[[AnyAnswer], object] | None,
    ) -> None:
        self.request = request
        self.given_up = False
        self.answer: AnyAnswer | None = None  # the last one
        self._connection = connection
        self._unread = unread
        self._on_answer = on_answer
        self._taken = False
        self._data: Any = None
        self._taker = object()

    def take(self, expected: type[A]) -> A | None:
        """Return the answer, or None while there is none.

        Raises OSError for a refusal, ConnectionLost (ECONNRESET) and
        RemoteProtocolError if no answer can arrive any more.
        """
        answer = self.answer
        if answer is None:
            self._connection.check()
            return None
        if isinstance(answer, Error):
            raise OSError(answer.errno, answer.message)
        if not isinstance(answer, expected):
            self._connection.fail(_unexpected(answer))
            raise _unexpected(answer)
        self._taken = True
        return answer

    def take_records(self, size: int) -> Any:
        """Return the next records or events, or None while there is nothing to read.

        Also returns None if the answer's records were taken by another read
        (is_spent()).

        Raises what take() raises, and OSError (EINVAL) if the first one does not fit.
        """
        unread = self._unread
        assert unread is not None  # the request is a read or a stream
        if unread:
            self._data = taken = unread.take(size, self._taker)
            return taken
        answer = self.take(unread.answer)
        return None if answer is None or unread.holds(answer) else unread.nothing

    def is_spent(self) -> bool:
        """Return whether the answer was records or events, so that no other answer will come."""
        return isinstance(self.answer, Records | Events)

    def begin_taking(self) -> None:
        """Confirm that everything taken before has reached the caller."""
        self._data = None
        self._taker = object()

    def put_back(self) -> None:
        """Undo take_records(): the records that it took have not reached the caller."""
        if self._unread is not None:
            self._unread.put_back(self._taker, self._data)
            self.begin_taking()

    def take_ready(self) -> bool | None:
        """Return whether there is something to read, or None while that is undecided.

        Raises what take() raises.
        """
        if self._unread:
            return True
        answer = self.take(Ready)
        return None if answer is None else answer.ready

    def deliver(self, answer: AnyAnswer, ordinal: int) -> None:
        """Take an answer.  ordinal is its number among all answers of the connection.

        Taking the same answer again changes nothing.
        """
        if self._unread is not None:
            self._unread.put(answer, ordinal)
        if self._on_answer is not None:
            self._on_answer(answer)
        if self.is_ended_by(answer):
            self.answer = answer

    def is_ended_by(self, answer: AnyAnswer) -> bool:
        """Return whether this is the last answer of the call."""
        return not (isinstance(self.request, Stream) and isinstance(answer, Records | Events))

    def leaves(self) -> DeviceMade | None:
        """Return the device that was made for the call but never taken, if any."""
        return self.answer if isinstance(self.answer, DeviceMade) and not self._taken else None


class _Arrived(NamedTuple):
    """Received data: chunks that are not decoded yet, the beginning of an incomplete frame (rest),
    and answers that are not delivered yet.  first is the ordinal of the first of these."""

    chunks: list[bytes]
    rest: bytes
    answers: tuple[AnyAnswer, ...]
    first: int


class ClientConnection:
    """The calls of one connection.  name is the path of the socket, for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decoder = answer_decoder()
        self._ids = count(1)
        self._calls: dict[int, Call] = {}
        self._lost: OSError | ProtocolError | None = None
        self._arrived = _Arrived([], b"", (), 1)
        self._frames: deque[Frame] = deque()
        self._notes: deque[Callable[[], object]] = deque()

    def ask(
        self,
        request: AnyRequest,
        unread: AnyUnread | None = None,
        on_answer: Callable[[AnyAnswer], object] | None = None,
        descriptor: Descriptor | None = None,
    ) -> Call:
        """Return a new call, whose frame next_frame() will return, with descriptor if given.

        unread stores the device's records or events.  on_answer is called with
        each answer when it arrives; it may be called twice with the same answer,
        which must make no difference.

        Raises ConnectionLost (ECONNRESET), OSError (EINVAL, EMSGSIZE), and
        TypeError if a field of the request has the wrong type.
        """
        self.check()
        request.id = next(self._ids)
        frame = Frame(encoded(request), descriptor)
        call = self._calls[request.id] = Call(self, request, unread, on_answer)
        self._frames.append(frame)
        return call

    def next_frame(self) -> Frame | None:
        """Return the frame to send next, or None."""
        while self._frames and self._frames[0].is_sent():
            self._frames.popleft()
        return self._frames[0] if self._frames else None

    def drop_frames(self) -> None:
        """Drop all frames: the server reads no more."""
        self._frames.clear()

    def welcomed(self, welcome: Welcome) -> None:
        """Check the version in the server's welcome.

        Raises OSError (EPROTONOSUPPORT) if it is another one.
        """
        if welcome.version != VERSION:
            raise OSError(
                errno.EPROTONOSUPPORT,
                f"{welcome.server} on {self._name} speaks version {welcome.version} of the "
                f"protocol, this client version {VERSION}: use the same release of both",
            )

    def give_up(self, call: Call) -> None:
        """Drop a call, whose answer is no longer wanted, at the next settle().

        The server is told if it would otherwise go on working for the call.
        """
        if not call.given_up and (call.answer is None or call.leaves()):
            self._notes.append(partial(self._give_up, call))

    def say(self, request: AnyRequest) -> None:
        """Make a request whose answer nobody waits for, at the next settle()."""
        self._notes.append(partial(self._say, request))

    @property
    def received(self) -> list[bytes]:
        """The received chunks, to which the link adds; settle() processes them.  b"" is the end."""
        return self._arrived.chunks

    def settle(self) -> None:
        """Deliver what was received, and carry out the notes."""
        while self._arrived.chunks or self._arrived.answers:
            if self._arrived.answers:
                self._deliver()
            else:
                self._decode()
        while self._notes:
            self._notes[0]()
            self._notes.popleft()

    def fail(self, reason: OSError | ProtocolError) -> None:
        """Record why no answer can arrive any more; only the first reason counts."""
        if self._lost is None:
            self._lost = reason

    def check(self) -> None:
        """Raise the reason for the loss of the connection, if it is lost.

        Raises OSError, ConnectionLost (ECONNRESET), RemoteProtocolError.
        """
        if self._lost is not None:
            # A new exception each time, since several threads may raise it.
            raise type(self._lost)(*self._lost.args)

    def _decode(self) -> None:
        """Decode the received chunks into answers."""
        arrived = self._arrived
        decoder = self._decoder.resumed(arrived.rest)
        answers: list[AnyAnswer] = []
        try:
            answers.extend(decoder.feed(b"".join(arrived.chunks)))
        except RemoteProtocolError as violation:
            self.fail(violation)
        if not arrived.chunks[-1]:
            self.fail(ConnectionLost(errno.ECONNRESET, f"the daemon behind {self._name} is gone"))
        self._arrived = _Arrived([], decoder.rest(), tuple(answers), arrived.first)

    def _deliver(self) -> None:
        """Deliver the answers to their calls; after an interruption, begin at the first again."""
        arrived = self._arrived
        for ordinal, answer in enumerate(arrived.answers, arrived.first):
            call = self._calls.get(answer.id)
            if call is not None and (call.answer is None or call.answer is answer):
                call.deliver(answer, ordinal)
            elif answer.id == NO_REQUEST and isinstance(answer, Error):
                self.fail(_ended(answer))
            else:
                self.fail(_unexpected(answer))
        following = arrived.first + len(arrived.answers)
        self._arrived = arrived._replace(answers=(), first=following)
        for answer in arrived.answers:
            call = self._calls.get(answer.id)
            if call is not None and call.is_ended_by(answer):
                del self._calls[answer.id]
                if call.given_up:
                    self._clear_up(call)

    def _give_up(self, call: Call) -> None:
        call.given_up = True
        self._clear_up(call)
        if call.request.id in self._calls and isinstance(call.request, _WAITING):
            self._say(Cancel(request=call.request.id))

    def _clear_up(self, call: Call) -> None:
        """Close a device that was made for a call that was given up."""
        made = call.leaves()
        if made is not None:
            self._say(Close(device=made.device))

    def _say(self, request: AnyRequest) -> None:
        if self._lost is None:
            self.ask(request).given_up = True


def wire_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    """Return a path in the form that requests need.

    Raises OSError (ENAMETOOLONG), TypeError.
    """
    name = os.fsencode(path)
    # The server would refuse it with the same error, but it may not fit a frame.
    if len(name) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name[:64])
    return name


def encoded(request: AnyRequest) -> bytes:
    """Return a request's frame, after checking that the server will accept it.

    Raises OSError: EINVAL for a number of more than 64 bits, EMSGSIZE; TypeError.
    """
    try:
        frame = encode(request)
    except OverflowError:
        raise OSError(errno.EINVAL, "a number has more than 64 bits") from None
    except LocalProtocolError as too_long:
        raise OSError(too_long.code, too_long.detail) from None
    check_request(frame)
    return bytes(frame)


def _ended(answer: Error) -> OSError:
    """Return the error with which the server ends the connection."""
    message = answer.message
    if answer.errno == errno.EPROTO:  # a server of our release would not find it wrong
        message += "; is the daemon of another release?"
    return OSError(answer.errno, message)


def _unexpected(answer: AnyAnswer) -> RemoteProtocolError:
    return RemoteProtocolError(
        errno.EPROTO, f"unexpected answer of the server to {answer.id}: {type(answer).__name__}"
    )
