# SPDX-License-Identifier: GPL-2.0-or-later
"""A client's half without I/O: every answer finds its call, and none is lost."""

from __future__ import annotations

import errno

import pytest

from fusenotify.events import Event, pack
from fusenotify.protocol.codec import encode, request_decoder
from fusenotify.protocol.connection import ClientConnection, ConnectionLost, wire_path
from fusenotify.protocol.errors import RemoteProtocolError
from fusenotify.protocol.faults import Lose
from fusenotify.protocol.messages import (
    Answer,
    AnyRequest,
    Cancel,
    CauseFault,
    Close,
    Count,
    DeviceMade,
    Done,
    Error,
    Fionread,
    Init,
    Poll,
    Read,
    Records,
    RmWatch,
    Stream,
    Sync,
    Welcome,
)
from fusenotify.protocol.unread import UnreadRecords

ONE = pack(Event(1, 0x100, 0, b"one"))
TWO = pack(Event(1, 0x200, 0, b"two"))


@pytest.fixture
def connection() -> ClientConnection:
    return ClientConnection("/x.sock")


def arrive(connection: ClientConnection, *answers: Answer) -> None:
    receive(connection, b"".join(bytes(encode(answer)) for answer in answers))


def receive(connection: ClientConnection, data: bytes) -> None:
    connection.received.append(data)
    connection.settle()


def sent(connection: ClientConnection) -> list[AnyRequest]:
    """Return what is to be sent, and have it sent."""
    connection.settle()
    data = b""
    while (frame := connection.next_frame()) is not None:
        data += frame.rest()
        frame.counts.append(len(frame.rest()))
    return list(request_decoder().feed(data))


def test_answers_find_their_calls_in_any_order(connection: ClientConnection) -> None:
    first = connection.ask(Fionread(device=1))
    second = connection.ask(Fionread(device=2))
    arrive(connection, Count(id=2, bytes=16), Count(id=1, bytes=32))
    answers = [first.take(Count), second.take(Count)]
    assert answers == [Count(id=1, bytes=32), Count(id=2, bytes=16)]


def test_a_call_without_an_answer_has_none_yet(connection: ClientConnection) -> None:
    call = connection.ask(Sync())
    assert call.take(Done) is None


def test_a_refusal_is_the_error_of_its_errno(connection: ClientConnection) -> None:
    call = connection.ask(Sync())
    arrive(connection, Error(id=1, errno=errno.ENOENT, message="nothing is there"))
    with pytest.raises(FileNotFoundError, match="nothing is there"):
        call.take(Done)


def test_a_stream_goes_on_until_it_is_refused(connection: ClientConnection) -> None:
    unread = UnreadRecords()
    call = connection.ask(Stream(device=1, size=4096), unread)
    arrive(connection, Records(id=1, data=ONE), Records(id=1, data=TWO))
    arrive(connection, Error(id=1, errno=errno.EBADF, message="closed"))
    for data in (ONE, TWO):
        assert call.take_records(len(data)) == data
    with pytest.raises(OSError, match="closed"):
        call.take_records(4096)


def test_records_of_a_read_that_was_given_up_stay_for_the_next(
    connection: ClientConnection,
) -> None:
    unread = UnreadRecords()
    call = connection.ask(Read(device=1, size=4096), unread)
    (read,) = sent(connection)
    connection.give_up(call)
    assert sent(connection) == [Cancel(id=2, request=read.id)]
    arrive(connection, Records(id=1, data=ONE), Done(id=2))
    assert unread.take(4096) == ONE


def test_records_that_came_before_the_read_was_given_up_stay_too(
    connection: ClientConnection,
) -> None:
    unread = UnreadRecords()
    call = connection.ask(Stream(device=1, size=4096), unread)
    arrive(connection, Records(id=1, data=ONE))
    connection.give_up(call)
    arrive(connection, Records(id=1, data=TWO), Done(id=2))
    arrive(connection, Error(id=1, errno=errno.ECANCELED, message="cancelled"))
    assert unread.take(4096) == ONE + TWO


def test_a_waiting_read_gets_the_records_of_one_given_up(
    connection: ClientConnection,
) -> None:
    unread = UnreadRecords()
    stream = connection.ask(Stream(device=1, size=4096), unread)
    connection.give_up(stream)
    assert sent(connection) == [Stream(id=1, device=1, size=4096), Cancel(id=2, request=1)]
    read = connection.ask(Read(device=1, size=4096), unread)
    poll = connection.ask(Poll(device=1), unread)
    assert (read.take_records(4096), poll.take_ready()) == (None, None)
    arrive(connection, Records(id=1, data=ONE))
    assert poll.take_ready() is True
    assert read.take_records(4096) == ONE
    arrive(connection, Records(id=3, data=TWO))
    assert read.take_records(4096) == TWO


def test_giving_up_an_answered_call_sends_nothing(connection: ClientConnection) -> None:
    call = connection.ask(Sync())
    arrive(connection, Done(id=1))
    sent(connection)
    connection.give_up(call)
    assert sent(connection) == []


def test_unread_records_are_taken_whole() -> None:
    unread = UnreadRecords()
    unread.put(Records(id=1, data=ONE + TWO), 1)
    assert unread.take(len(ONE) + 1) == ONE
    with pytest.raises(OSError, match="does not fit") as refusal:
        unread.take(len(TWO) - 1)
    assert refusal.value.errno == errno.EINVAL
    assert unread.take(len(TWO)) == TWO
    assert unread.size() == 0


def test_a_lost_connection_fails_every_call_after_its_answers(
    connection: ClientConnection,
) -> None:
    answered = connection.ask(Sync())
    waiting = connection.ask(Sync())
    arrive(connection, Done(id=1))
    receive(connection, b"")
    assert answered.take(Done) == Done(id=1)
    for _ in range(2):
        with pytest.raises(ConnectionLost, match=r"/x\.sock is gone"):
            waiting.take(Done)
    with pytest.raises(ConnectionLost):
        connection.ask(Sync())


def test_the_reason_that_the_server_gives_is_the_one_told(connection: ClientConnection) -> None:
    call = connection.ask(Sync())
    arrive(connection, Error(id=0, errno=errno.EPROTO, message="say hello first"))
    receive(connection, b"")
    with pytest.raises(OSError, match="say hello first"):
        call.take(Done)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(encode(Done(id=7))), id="an answer to nothing"),
        pytest.param(bytes(encode(Count(id=1, bytes=1))), id="an answer of another kind"),
        pytest.param(b"\0\0\0\1\xc1", id="no message"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_left(
    connection: ClientConnection, data: bytes
) -> None:
    call = connection.ask(Sync())
    receive(connection, data)
    with pytest.raises(RemoteProtocolError):
        call.take(Done)
    with pytest.raises(RemoteProtocolError):
        connection.ask(Sync())


def test_a_server_of_another_version_is_refused(connection: ClientConnection) -> None:
    welcome = Welcome(
        id=1, version=2, semantics="linux-6", mountpoint=b"/", pid=1, server="fusenotify 9"
    )
    with pytest.raises(OSError, match="fusenotify 9") as refusal:
        connection.welcomed(welcome)
    assert refusal.value.errno == errno.EPROTONOSUPPORT


def test_a_path_too_long_for_any_tree_is_refused_before_it_is_sent() -> None:
    with pytest.raises(OSError, match="too long") as refusal:
        wire_path("x" * 70000)
    assert refusal.value.errno == errno.ENAMETOOLONG


def test_an_interrupted_settle_is_begun_again_and_done_once(
    connection: ClientConnection,
) -> None:
    unread = UnreadRecords()
    interruptions = [KeyboardInterrupt()]

    def interrupt(answer: Answer) -> None:
        if interruptions:
            raise interruptions.pop()

    stream = connection.ask(Stream(device=1, size=4096), unread)
    sync = connection.ask(Sync(), on_answer=interrupt)
    connection.received.append(bytes(encode(Records(id=1, data=ONE)) + encode(Done(id=2))))
    with pytest.raises(KeyboardInterrupt):
        connection.settle()
    connection.settle()
    assert sync.take(Done) == Done(id=2)
    assert stream.take_records(4096) == ONE
    assert stream.take_records(4096) is None


def test_records_that_reached_nobody_are_put_back_in_their_place() -> None:
    unread, reader, other = UnreadRecords(), object(), object()
    unread.put(Records(id=1, data=ONE), 1)
    unread.put(Records(id=1, data=TWO), 2)
    assert unread.take(len(ONE), reader) == ONE
    unread.put_back(reader, ONE)
    assert unread.take(len(ONE), reader) == ONE
    assert unread.take(len(TWO), other) == TWO
    unread.put_back(reader, ONE)  # another took meanwhile: they are not lost
    assert (unread.size(), unread.take(4096)) == (len(ONE), ONE)


def test_a_device_that_was_made_for_nobody_is_closed(connection: ClientConnection) -> None:
    for answered_first in (False, True):
        call = connection.ask(Init())
        sent(connection)
        made = DeviceMade(id=call.request.id, device=7)
        if answered_first:
            arrive(connection, made)
        connection.give_up(call)
        connection.settle()
        if not answered_first:
            arrive(connection, made)
        assert [type(request) for request in sent(connection)] == [Close]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        pytest.param(RmWatch(device=1, wd=2**64), OSError, id="a number of more than 64 bits"),
        pytest.param(Init(semantics="x" * 70_000), OSError, id="a text that fits no frame"),
        pytest.param(RmWatch(device=1, wd=1.5), TypeError, id="a fraction"),  # type: ignore[arg-type]
        pytest.param(Read(device=1, size=1, timeout="1"), TypeError, id="a text"),  # type: ignore[arg-type]
        pytest.param(CauseFault(fault=Lose(count=None)), TypeError, id="nothing"),  # type: ignore[arg-type]
    ],
)
def test_a_request_that_cannot_be_encoded_is_refused_and_keeps_the_connection(
    connection: ClientConnection, request_: AnyRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        connection.ask(request_)
    assert sent(connection) == []
    connection.check()
