# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames come whole out of pieces, and whatever is no frame is refused."""

from __future__ import annotations

import errno
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusenotify.protocol.codec import answer_decoder, encode, request_decoder
from fusenotify.protocol.errors import LocalProtocolError, RemoteProtocolError
from fusenotify.protocol.messages import (
    MAX_READ,
    MAX_REQUEST_FRAME,
    AddWatch,
    AnyAnswer,
    AnyRequest,
    Cancel,
    Close,
    Count,
    DeviceMade,
    Done,
    Error,
    Fionread,
    Hello,
    Init,
    Poll,
    Read,
    Ready,
    Records,
    RmWatch,
    Status,
    StatusOf,
    Stream,
    Sync,
    WatchAdded,
    Welcome,
)
from fusenotify.protocol.status import (
    ClientStatus,
    DeviceStatus,
    LimitsStatus,
    UserStatus,
)

REQUESTS: list[AnyRequest] = [
    Hello(id=1, version=1),
    Init(id=2, max_queued_events=4, semantics="linux-6"),
    Init(id=3),
    AddWatch(id=4, device=1, path=b"/\xff", mask=0x80000FFF),
    RmWatch(id=5, device=1, wd=1),
    Read(id=6, device=1, size=4096, timeout=0.5),
    Poll(id=7, device=1),
    Fionread(id=8, device=1),
    Close(id=9, device=1),
    Sync(id=10),
    Stream(id=11, device=1, size=65536),
    Cancel(id=12, request=11),
    StatusOf(id=13),
]
ANSWERS: list[AnyAnswer] = [
    Welcome(id=1, version=1, semantics="linux-6", mountpoint=b"/mnt/\xff", pid=1, server="x 1"),
    DeviceMade(id=2, device=1),
    WatchAdded(id=3, wd=1),
    Records(id=4, data=b"\0" * 16),
    Ready(id=5, ready=True),
    Count(id=6, bytes=16),
    Done(id=7),
    Error(id=8, errno=errno.ENOENT, message="no"),
    Status(
        id=9,
        server="x 1",
        pid=1,
        semantics="linux-6",
        mountpoint=b"/m",
        source=b"/s",
        uptime=1.5,
        tasks=9,
        limits=LimitsStatus(
            max_queued_events=1,
            max_user_instances=2,
            max_user_watches=3,
            max_user_connections=4,
            max_waiting_requests=5,
            max_request_bytes=6,
            max_answer_bytes=7,
        ),
        clients=[
            ClientStatus(
                pid=1,
                uid=0,
                devices=[
                    DeviceStatus(
                        device=1,
                        uid=0,
                        semantics="linux-6",
                        queued=1,
                        max_queued_events=2,
                        watches=3,
                        overflows=4,
                        merged=5,
                        lost=6,
                    )
                ],
            )
        ],
        users=[UserStatus(uid=0, watches=1, devices=1, connections=1)],
    ),
]


def frame(message: Any) -> bytes:
    """Frame any object, as a client in another language would."""
    return framed(msgpack.packb(message))


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def test_all_messages_survive_the_wire_in_one_piece() -> None:
    stream = b"".join(bytes(encode(message)) for message in REQUESTS)
    assert list(request_decoder().feed(stream)) == REQUESTS
    stream = b"".join(bytes(encode(message)) for message in ANSWERS)
    assert list(answer_decoder().feed(stream)) == ANSWERS


def test_all_messages_survive_the_wire_byte_by_byte() -> None:
    decoder = answer_decoder()
    received: list[AnyAnswer] = []
    for byte in b"".join(bytes(encode(message)) for message in ANSWERS):
        received += decoder.feed(bytes([byte]))
    assert received == ANSWERS
    assert not decoder.rest()


def test_a_partial_frame_waits_for_its_rest() -> None:
    decoder = request_decoder()
    whole = bytes(encode(REQUESTS[1]))
    assert list(decoder.feed(bytes(encode(REQUESTS[0])) + whole[:7])) == REQUESTS[:1]
    assert decoder.rest()
    assert list(decoder.feed(whole[7:])) == REQUESTS[1:2]
    assert not decoder.rest()


def test_an_answer_may_grow_fields_that_a_client_does_not_know() -> None:
    grown = frame({"type": "done", "id": 1, "took": 0.5})
    assert list(answer_decoder().feed(grown)) == [Done(id=1)]


def test_a_hello_may_grow_fields_so_that_a_server_can_say_that_it_is_too_new() -> None:
    grown = frame({"type": "hello", "id": 1, "version": 9, "compression": "zstd"})
    assert list(request_decoder().feed(grown)) == [Hello(id=1, version=9)]


DEEP = b"\x91" * 60000 + b"\xc0"


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        pytest.param(b"\0\0\0\0", errno.EPROTO, "truncated", id="an empty frame"),
        pytest.param(b"\0\0\0\1\xc1", errno.EPROTO, "not a message", id="no msgpack"),
        pytest.param(frame([1, 2]), errno.EPROTO, "object", id="no map"),
        pytest.param(frame({"id": 1}), errno.EPROTO, "type", id="no type"),
        pytest.param(frame({"type": "mount", "id": 1}), errno.EPROTO, "mount", id="unknown type"),
        pytest.param(frame({"type": "hello", "id": 1}), errno.EPROTO, "version", id="no version"),
        pytest.param(
            frame({"type": "read", "id": 1, "device": "1", "size": 1}),
            errno.EPROTO,
            "device",
            id="a number as text",
        ),
        pytest.param(
            frame({"type": "add_watch", "id": 1, "device": 1, "path": "/a", "mask": 1}),
            errno.EPROTO,
            "path",
            id="a path as text",
        ),
        pytest.param(
            frame({"type": "sync", "id": 1, "hard": True}), errno.EPROTO, "hard", id="unknown field"
        ),
        pytest.param(
            frame({"type": "sync", "id": 1}) + b"\0\0\0\3\xc0\xc0\xc0",
            errno.EPROTO,
            "not a message",
            id="bytes behind the message",
        ),
        pytest.param(framed(b"\x81\xa4type\xa2\xff\xff"), errno.EPROTO, "utf-8", id="no utf-8"),
        pytest.param(
            framed(b"\x82\xa4type\xa5hello\xa1x" + DEEP), errno.EPROTO, "recursion", id="too deep"
        ),
        pytest.param(b"\xff\xff\xff\xff", errno.EMSGSIZE, "4294967295", id="four gigabytes"),
        pytest.param(
            (MAX_REQUEST_FRAME + 1).to_bytes(4, "big"),
            errno.EMSGSIZE,
            "65537",
            id="a byte too long",
        ),
    ],
)
def test_an_invalid_request_is_refused(data: bytes, code: int, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as refusal:
        list(request_decoder().feed(data))
    assert refusal.value.code == code


def test_requests_before_a_violation_are_returned_first() -> None:
    messages = request_decoder().feed(bytes(encode(REQUESTS[0])) + b"\xff\xff\xff\xff")
    assert next(messages) == REQUESTS[0]
    with pytest.raises(RemoteProtocolError):
        next(messages)


def test_the_longest_read_fits_an_answer() -> None:
    answer = Records(id=2**63, data=bytes(MAX_READ))
    assert list(answer_decoder().feed(bytes(encode(answer)))) == [answer]


def test_a_request_too_long_is_refused_by_its_sender() -> None:
    with pytest.raises(LocalProtocolError, match="65536"):
        encode(AddWatch(id=1, device=1, path=bytes(MAX_REQUEST_FRAME), mask=1))


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=200))
def test_any_bytes_give_messages_or_a_refusal(data: bytes, cut: int) -> None:
    decoder = request_decoder()
    try:
        for piece in (data[:cut], data[cut:]):
            list(decoder.feed(piece))
    except RemoteProtocolError:
        assert len(data) >= 4


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.binary(max_size=20),
    st.text(max_size=20),
    st.lists(st.none(), max_size=2),
)


@given(
    st.sampled_from(["hello", "init", "add_watch", "read", "status"]),
    st.dictionaries(
        st.sampled_from(["id", "version", "device", "path", "mask", "size", "timeout"]), VALUES
    ),
)
def test_any_fields_give_a_request_or_a_refusal(kind: str, fields: dict[str, Any]) -> None:
    decoder = request_decoder()
    try:
        (request,) = decoder.feed(frame(fields | {"type": kind}))
    except RemoteProtocolError:
        assert decoder.rest()
    else:
        assert isinstance(request.id, int)
