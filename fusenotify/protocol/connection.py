# SPDX-License-Identifier: GPL-2.0-or-later
"""A client's half of a connection, without I/O: numbers requests, matches answers.

client.link and client.aio.link send the frames that it makes, hand over what
their sockets give, and ask each Call whether its answer is there.

Invariants
    An answer goes to the call whose number it bears, in the order of arrival,
        and what it means is stored then (on_answer): a table that an answer
        fills is filled before a later answer can name what is in it.
    What a device gives goes to its Unread, whoever asked for them, and reads take
        from there, so that giving up a read loses no event.
    The first reason for which a connection is lost is the one that is told,
        and every call under way hears it behind the answers it has.
    An exception from outside (a signal handler's) may strike anywhere.  What
        was received is put away in one step, and what is done with it can be
        begun again: settle() goes on where it was interrupted.
    note() may be called anywhere, by the garbage collector too: it changes
        nothing but a list of what settle() does next.
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
    Stream,
    Welcome,
)
from fusenotify.protocol.unread import AnyUnread

A = TypeVar("A", bound=AnyAnswer)

# Requests that the server lets wait until it is told that nobody does any more.
_WAITING = (Read, Poll, Stream)


class ConnectionLost(ConnectionResetError):
    """The daemon is gone, and with it the devices of this connection (ECONNRESET)."""


@runtime_checkable
class Descriptor(Protocol):
    """A descriptor that a request passes; open as long as somebody has this object."""

    number: int


class Frame:
    """A request on its way out.

    descriptor is passed with its first bytes.  counts are how many bytes of it
    each send took: a link adds to it in one step, in which nothing can be
    interrupted.
    """

    __slots__ = ("_data", "_descriptor", "counts")

    def __init__(self, data: bytes, descriptor: Descriptor | None) -> None:
        self._data = data
        self._descriptor = descriptor
        self.counts: list[int] = []

    def rest(self) -> bytes:
        """Return what is to be sent."""
        return self._data[sum(self.counts) :] if self.counts else self._data

    def descriptors(self) -> list[int]:
        """Return what is passed with the rest."""
        return [] if self._descriptor is None or self.counts else [self._descriptor.number]

    def is_sent(self) -> bool:
        """Return whether nothing is left."""
        return bool(self.counts) and sum(self.counts) == len(self._data)


class Call:
    """A request under way, and what was answered so far."""

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
        """Return the answer, or None as long as there is none.

        Raises OSError for a refusal, ConnectionLost (ECONNRESET) and
        RemoteProtocolError where no answer can come any more.
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
        """Return the next records or events, or None as long as there is nothing.

        None, too, where what was answered went to another read (is_spent()).

        Raises as take(), and OSError (EINVAL) where the first does not fit.
        """
        unread = self._unread
        assert unread is not None  # else it asks for something else
        if unread:
            self._data = taken = unread.take(size, self._taker)
            return taken
        answer = self.take(unread.answer)
        return None if answer is None or unread.holds(answer) else unread.nothing

    def is_spent(self) -> bool:
        """Return whether records or events were the answer, so that no more will come."""
        return isinstance(self.answer, Records | Events)

    def begin_taking(self) -> None:
        """Say that what was taken before reached who asked for it."""
        self._data = None
        self._taker = object()

    def put_back(self) -> None:
        """Undo take_records(): what it took reached nobody."""
        if self._unread is not None:
            self._unread.put_back(self._taker, self._data)
            self.begin_taking()

    def take_ready(self) -> bool | None:
        """Return whether there is something to read, or None as long as that is open.

        Raises as take().
        """
        if self._unread:
            return True
        answer = self.take(Ready)
        return None if answer is None else answer.ready

    def deliver(self, answer: AnyAnswer, ordinal: int) -> None:
        """Take an answer, its connection's so manieth; a second time it is the same again."""
        if self._unread is not None:
            self._unread.put(answer, ordinal)
        if self._on_answer is not None:
            self._on_answer(answer)
        if self.is_ended_by(answer):
            self.answer = answer

    def is_ended_by(self, answer: AnyAnswer) -> bool:
        """Return whether no further answer comes behind this one."""
        return not (isinstance(self.request, Stream) and isinstance(answer, Records | Events))

    def leaves(self) -> DeviceMade | None:
        """Return what was made for the call and went to nobody."""
        return self.answer if isinstance(self.answer, DeviceMade) and not self._taken else None


class _Arrived(NamedTuple):
    """What the socket gave: chunks as it gave them, the beginning of a frame that is not complete,
    and answers that are to be delivered, the first of them the connection's so manieth."""

    chunks: list[bytes]
    rest: bytes
    answers: tuple[AnyAnswer, ...]
    first: int


class ClientConnection:
    """The calls of one connection.  name is the socket's, for messages."""

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
        """Return a new call, whose frame is to be sent, with a descriptor where one is given.

        unread is where goes what the device gives.  on_answer is called with each
        answer when it comes, and maybe twice: what it does must be the same then.

        Raises ConnectionLost (ECONNRESET), OSError (EINVAL, EMSGSIZE) and
        TypeError where the protocol has no such request.
        """
        self.check()
        request.id = next(self._ids)
        frame = Frame(encoded(request), descriptor)
        call = self._calls[request.id] = Call(self, request, unread, on_answer)
        self._frames.append(frame)
        return call

    def next_frame(self) -> Frame | None:
        """Return what is to be sent next."""
        while self._frames and self._frames[0].is_sent():
            self._frames.popleft()
        return self._frames[0] if self._frames else None

    def drop_frames(self) -> None:
        """Send nothing: nobody reads any more."""
        self._frames.clear()

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

    def give_up(self, call: Call) -> None:
        """Want no answer to a call any more; settle() does what that takes.

        The server is told when it would go on working for the call.
        """
        if not call.given_up and (call.answer is None or call.leaves()):
            self._notes.append(partial(self._give_up, call))

    def say(self, request: AnyRequest) -> None:
        """Ask, at the next settle(), what nobody waits for the answer of."""
        self._notes.append(partial(self._say, request))

    @property
    def received(self) -> list[bytes]:
        """What the socket gave, for settle() to deal with; b"" is its end.  The link adds to it."""
        return self._arrived.chunks

    def settle(self) -> None:
        """Deliver what was received, and do what was noted."""
        while self._arrived.chunks or self._arrived.answers:
            if self._arrived.answers:
                self._deliver()
            else:
                self._decode()
        while self._notes:
            self._notes[0]()
            self._notes.popleft()

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

    def _decode(self) -> None:
        """Make answers of what was received."""
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
        """Hand the answers to their calls; where it was interrupted, from the first on again."""
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
    """Return a path as a request takes it.

    Raises OSError (ENAMETOOLONG).
    """
    name = os.fsencode(path)
    # The server says the same of shorter ones; these would not fit a frame.
    if len(name) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name[:64])
    return name


def encoded(request: AnyRequest) -> bytes:
    """Return a request's frame, which the server will take.

    Raises OSError (EINVAL, EMSGSIZE), TypeError.
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
    """Return why the server ends the connection."""
    message = answer.message
    if answer.errno == errno.EPROTO:  # to a server of our release we say nothing wrong
        message += "; is the daemon of another release?"
    return OSError(answer.errno, message)


def _unexpected(answer: AnyAnswer) -> RemoteProtocolError:
    return RemoteProtocolError(
        errno.EPROTO, f"the server answered {answer.id} with {type(answer).__name__}, unasked"
    )
