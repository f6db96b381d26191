# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client asks is answered as the syscalls answer; what it must not ask ends it."""

from __future__ import annotations

import errno
import math
import os
from functools import partial
from typing import Any

import pytest
import trio

from fusenotify.credentials import Credentials
from fusenotify.events import Event, unpack
from fusenotify.masks import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_DELETE,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
)
from fusenotify.protocol.codec import encode
from fusenotify.protocol.messages import (
    MAX_READ,
    AddWatch,
    AnyRequest,
    Cancel,
    Close,
    Count,
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
    StatusOf,
    Stream,
    Sync,
    WatchAdded,
    Welcome,
)
from fusenotify.protocol.status import (
    ClientStatus,
)
from tests.server.conftest import Served
from tests.server.peer import SECONDS, Peer

ROOT = Credentials(pid=1, uid=0, gid=0)


async def watching(served: Served, path: bytes = b"/", **options: Any) -> Peer:
    """Return a client with device 1 and watch 1."""
    peer = await served.connect()
    assert await peer.device(**options) == 1
    answer = await peer.ask(AddWatch(device=1, path=path, mask=IN_ALL_EVENTS))
    assert isinstance(answer, WatchAdded)
    assert answer.wd == 1
    return peer


def events(answer: Any) -> list[Event]:
    assert isinstance(answer, Records)
    return list(unpack(answer.data))


def code(answer: Any) -> str:
    assert isinstance(answer, Error)
    return errno.errorcode[answer.errno]


def clients(served: Served) -> list[ClientStatus]:
    return served.server.status(ROOT, 1).clients


async def settle() -> None:
    """Let the server do what it can do now."""
    await trio.testing.wait_all_tasks_blocked()


# Hello.


@pytest.mark.trio
async def test_hello_is_answered_with_the_mount_and_the_pid(served: Served) -> None:
    welcome = await (await served.connect()).hello()
    assert isinstance(welcome, Welcome)
    assert (welcome.semantics, welcome.mountpoint, welcome.pid) == (
        "linux-6",
        b"/mnt/x",
        os.getpid(),
    )
    assert welcome.server.startswith("fusenotify")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("sent", "refusal"),
    [
        pytest.param(bytes(encode(Init(id=1))), "EPROTO", id="a request before hello"),
        pytest.param(bytes(encode(Hello(id=1, version=2))), "EPROTONOSUPPORT", id="a new version"),
        pytest.param(bytes(encode(Hello(id=1, version=0))), "EPROTONOSUPPORT", id="an old version"),
        pytest.param(bytes(encode(Hello(id=1, version=1))) * 2, "EPROTO", id="hello twice"),
        pytest.param(bytes(encode(Hello(id=0, version=1))), "EPROTO", id="no id"),
        pytest.param(bytes(encode(Hello(id=-1, version=1))), "EPROTO", id="a negative id"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "EMSGSIZE", id="another protocol"),
        pytest.param(b"\0\0\0\x05hello", "EPROTO", id="a malformed frame"),
        pytest.param(b"\xff\xff\xff\xff", "EMSGSIZE", id="a frame over the limit"),
    ],
)
async def test_a_violation_is_told_and_ends_the_connection(
    served: Served, sent: bytes, refusal: str
) -> None:
    peer = await served.connect()
    other = await watching(served)
    await peer.stream.send_all(sent + bytes(70000))  # what follows is not read
    answer = await peer.answer()
    if isinstance(answer, Welcome):
        answer = await peer.answer()
    assert isinstance(answer, Error)
    assert (answer.id, code(answer)) == (0, refusal)
    assert await peer.answer() is None
    assert await other.ask(Fionread(device=1)) == Count(id=4, bytes=0)


@pytest.mark.trio
async def test_a_waiting_request_has_its_number_to_itself(served: Served) -> None:
    peer = await watching(served)
    for _ in range(2):
        await peer.stream.send_all(encode(Poll(id=9, device=1)))
    answer = await peer.answer()
    assert isinstance(answer, Error)
    assert (answer.id, code(answer)) == (0, "EPROTO")


@pytest.mark.trio
@pytest.mark.parametrize("kind", [Read(id=9, device=1, size=4096), Poll(id=9, device=1)])
async def test_an_answered_number_can_be_used_again_at_once(
    served: Served, kind: AnyRequest
) -> None:
    peer = await watching(served)
    for number in range(100):
        await peer.stream.send_all(encode(kind))
        await settle()
        served.tree.make(str(number))
        answer = await peer.answer()
        assert answer is not None
        assert answer.id == 9
        if isinstance(kind, Poll):
            await peer.ask(Read(device=1, size=4096))


@pytest.mark.trio
async def test_watches_come_and_go_after_a_fence(served: Served) -> None:
    """What was done before is heard by an old watch, and not by a new one."""
    served.tree.on_fence = partial(served.tree.make, "before add_watch")
    peer = await watching(served)
    served.tree.on_fence = partial(served.tree.make, "before rm_watch")
    await peer.ask(RmWatch(device=1, wd=1))
    heard = [(event.mask, event.name) for event in events(await peer.ask(Read(device=1, size=999)))]
    assert heard == [(IN_CREATE, b"before rm_watch"), (IN_IGNORED, None)]


# Refusals: the connection goes on.


@pytest.mark.trio
@pytest.mark.parametrize(
    ("request_", "refusal", "says"),
    [
        pytest.param(
            AddWatch(device=1, path=b"/", mask=0), "EINVAL", "no event", id="a mask of nothing"
        ),
        pytest.param(
            AddWatch(device=1, path=b"/", mask=-1), "EINVAL", "32 bits", id="a negative mask"
        ),
        pytest.param(
            AddWatch(device=1, path=b"/", mask=2**32), "EINVAL", "32 bits", id="a mask too wide"
        ),
        pytest.param(
            AddWatch(device=1, path=b"/none", mask=1), "ENOENT", "not there", id="a missing path"
        ),
        pytest.param(AddWatch(device=1, path=b"", mask=1), "ENOENT", "empty", id="an empty path"),
        pytest.param(
            AddWatch(device=1, path=b"/a\0b", mask=1), "EINVAL", "NUL", id="a path with a NUL"
        ),
        pytest.param(
            AddWatch(device=1, path=b"/file/x", mask=1), "ENOTDIR", "through", id="through a file"
        ),
        pytest.param(
            AddWatch(device=1, path=b"/file", mask=1 | IN_ONLYDIR),
            "ENOTDIR",
            "directory",
            id="a file where a directory is asked for",
        ),
        pytest.param(
            AddWatch(device=1, path=b"/link", mask=1 | IN_ONLYDIR | IN_DONT_FOLLOW),
            "ENOTDIR",
            "directory",
            id="a link that is not followed",
        ),
        pytest.param(
            AddWatch(device=7, path=b"/", mask=1), "EBADF", "device 7", id="a device never made"
        ),
        pytest.param(RmWatch(device=1, wd=77), "EINVAL", "77", id="an unknown watch"),
        pytest.param(RmWatch(device=7, wd=1), "EBADF", "7", id="a watch of no device"),
        pytest.param(Read(device=7, size=9), "EBADF", "7", id="reading no device"),
        pytest.param(Read(device=1, size=-1), "EINVAL", "negative", id="a negative size"),
        pytest.param(Read(device=1, size=9, timeout=-1), "EINVAL", "timeout", id="the past"),
        pytest.param(Read(device=1, size=9, timeout=math.nan), "EINVAL", "nan", id="no number"),
        pytest.param(Read(device=1, size=9, timeout=0), "EAGAIN", "queued", id="an empty queue"),
        pytest.param(Poll(device=7), "EBADF", "7", id="polling no device"),
        pytest.param(Stream(device=7, size=9), "EBADF", "7", id="a stream of no device"),
        pytest.param(Fionread(device=7), "EBADF", "7", id="FIONREAD on no device"),
        pytest.param(Close(device=7), "EBADF", "7", id="closing no device"),
        pytest.param(Init(semantics="linux-7"), "EINVAL", "linux-2.6.18", id="unknown semantics"),
        pytest.param(Init(max_queued_events=-1), "EINVAL", "-1", id="a negative queue"),
        pytest.param(Init(max_queued_events=2**31), "EINVAL", "at most", id="a huge queue"),
    ],
)
async def test_a_refusal_is_an_errno_and_a_sentence(
    served: Served, request_: AnyRequest, refusal: str, says: str
) -> None:
    served.tree.make("file")
    served.tree.make("link", target=b"/")
    peer = await served.connect()
    await peer.device()
    answer = await peer.ask(request_)
    assert code(answer) == refusal
    assert says in answer.message
    assert isinstance(await peer.ask(Fionread(device=1)), Count)


@pytest.mark.trio
async def test_a_closed_device_is_gone_and_its_number_is_not_used_again(served: Served) -> None:
    peer = await watching(served)
    assert isinstance(await peer.ask(Close(device=1)), Done)
    assert code(await peer.ask(Read(device=1, size=4096))) == "EBADF"
    assert await peer.device() == 2
    assert served.tree.root.pins == 0


@pytest.mark.trio
async def test_a_mask_is_refused_before_the_path(served: Served) -> None:
    peer = await served.connect()
    await peer.device()
    answer = await peer.ask(AddWatch(device=1, path=b"/none", mask=0))
    assert code(answer) == "EINVAL"


# Reading.


@pytest.mark.trio
async def test_read_gives_the_records_of_the_events(served: Served) -> None:
    peer = await watching(served)
    served.tree.make("a")
    served.tree.remove("a")
    assert events(await peer.ask(Read(device=1, size=4096))) == [
        Event(1, IN_CREATE, 0, b"a"),
        Event(1, IN_DELETE, 0, b"a"),
    ]


@pytest.mark.trio
async def test_read_waits_for_the_first_event(served: Served) -> None:
    peer = await watching(served)
    await peer.send(Read(device=1, size=4096))
    await settle()
    served.tree.make("a")
    assert events(await peer.answer()) == [Event(1, IN_CREATE, 0, b"a")]


@pytest.mark.trio
@pytest.mark.parametrize(
    "request_", [Read(device=1, size=9, timeout=0.01), Poll(device=1, timeout=0.01)]
)
async def test_a_timeout_passes(served: Served, request_: AnyRequest) -> None:
    peer = await watching(served)
    answer = await peer.ask(request_)
    assert answer == Ready(id=4, ready=False) or code(answer) == "EAGAIN"


@pytest.mark.trio
async def test_poll_and_fionread_tell_what_is_queued(served: Served) -> None:
    peer = await watching(served)
    await peer.send(Poll(device=1))
    assert await peer.ask(Fionread(device=1)) == Count(id=5, bytes=0)
    served.tree.make("a")
    assert await peer.answer() == Ready(id=4, ready=True)
    assert await peer.ask(Poll(device=1, timeout=0)) == Ready(id=6, ready=True)
    assert await peer.ask(Fionread(device=1)) == Count(id=7, bytes=32)


@pytest.mark.trio
async def test_several_requests_are_answered_as_they_can_be(served: Served) -> None:
    peer = await watching(served)
    assert await peer.device() == 2
    waiting = await peer.send(Read(device=1, size=4096))
    at_once = await peer.send(Read(device=2, size=4096, timeout=0))
    first = await peer.answer()
    served.tree.make("a")
    second = await peer.answer()
    assert [answer.id for answer in (first, second) if answer] == [at_once, waiting]


@pytest.mark.trio
async def test_of_two_reads_one_gets_the_event_and_the_other_goes_on_waiting(
    served: Served,
) -> None:
    peer = await watching(served)
    for _ in range(2):
        await peer.send(Read(device=1, size=4096))
    await settle()
    served.tree.make("a")
    assert events(await peer.answer()) == [Event(1, IN_CREATE, 0, b"a")]
    await settle()
    served.tree.make("b")
    assert events(await peer.answer()) == [Event(1, IN_CREATE, 0, b"b")]


@pytest.mark.trio
async def test_a_buffer_too_small_is_refused_and_the_event_stays(served: Served) -> None:
    peer = await watching(served)
    served.tree.make("a")
    assert code(await peer.ask(Read(device=1, size=31))) == "EINVAL"
    assert len(events(await peer.ask(Read(device=1, size=32)))) == 1


@pytest.mark.trio
async def test_a_device_may_have_the_other_semantics(served: Served) -> None:
    peer = await watching(served, semantics="linux-2.6.18")
    served.tree.make("a")
    assert await peer.ask(Read(device=1, size=31)) == Records(id=4, data=b"")
    answer = await peer.ask(Stream(device=1, size=31))
    assert code(answer) == "EINVAL"


@pytest.mark.trio
async def test_a_queue_of_two_overflows(served: Served) -> None:
    peer = await watching(served, max_queued_events=2)
    for name in "abcd":
        served.tree.make(name)
    assert events(await peer.ask(Read(device=1, size=4096))) == [
        Event(1, IN_CREATE, 0, b"a"),
        Event(1, IN_CREATE, 0, b"b"),
        Event(-1, IN_Q_OVERFLOW),
    ]


@pytest.mark.trio
async def test_closing_a_device_ends_the_requests_that_wait_for_it(served: Served) -> None:
    peer = await watching(served)
    waiting = {await peer.send(request) for request in (Read(device=1, size=9), Poll(device=1))}
    closing = await peer.send(Close(device=1))
    answers = [await peer.answer() for _ in range(3)]
    refused = {answer.id for answer in answers if answer and answer.id != closing}
    assert refused == waiting
    assert all(code(answer) == "EBADF" for answer in answers if answer and answer.id != closing)


@pytest.mark.trio
@pytest.mark.parametrize(
    "request_", [Read(device=1, size=4096), Poll(device=1), Stream(device=1, size=4096)]
)
async def test_a_cancelled_request_ends_and_leaves_the_events(
    served: Served, request_: AnyRequest
) -> None:
    peer = await watching(served)
    waiting = await peer.send(request_)
    await settle()
    cancelling = await peer.send(Cancel(request=waiting))
    answers = {answer.id: answer for answer in [await peer.answer(), await peer.answer()] if answer}
    assert code(answers[waiting]) == "ECANCELED"
    assert isinstance(answers[cancelling], Done)
    served.tree.make("a")
    assert len(events(await peer.ask(Read(device=1, size=4096)))) == 1


@pytest.mark.trio
async def test_cancelling_an_unknown_request_is_done(served: Served) -> None:
    peer = await watching(served)
    assert isinstance(await peer.ask(Cancel(request=99)), Done)


@pytest.mark.trio
async def test_too_many_waiting_requests_are_refused(served: Served) -> None:
    most = served.server.quotas.max_waiting_requests
    peer = await watching(served)
    for _ in range(most):
        await peer.send(Poll(device=1))
    assert code(await peer.ask(Poll(device=1))) == "EBUSY"
    served.tree.make("a")
    for _ in range(most):
        assert isinstance(await peer.answer(), Ready)


@pytest.mark.trio
async def test_sync_is_answered_after_the_fence(served: Served) -> None:
    peer = await watching(served)
    served.tree.on_fence = partial(served.tree.make, "a")
    assert isinstance(await peer.ask(Sync()), Done)
    assert len(events(await peer.ask(Read(device=1, size=4096, timeout=0)))) == 1


@pytest.mark.trio
async def test_a_read_with_a_fence_has_what_was_done_before(served: Served) -> None:
    peer = await watching(served)
    served.tree.on_fence = partial(served.tree.make, "a")
    assert code(await peer.ask(Read(device=1, size=4096, timeout=0))) == "EAGAIN"
    assert len(events(await peer.ask(Read(device=1, size=4096, timeout=0, fence=True)))) == 1


# Streams.


@pytest.mark.trio
async def test_a_stream_pushes_what_was_queued_in_one_frame(served: Served) -> None:
    peer = await watching(served)
    stream = await peer.send(Stream(device=1, size=65536))
    await settle()
    for names in ("abc", "d"):
        for name in names:
            served.tree.make(name)
        answer = await peer.answer()
        assert answer is not None
        assert answer.id == stream
        assert [event.name for event in events(answer)] == [name.encode() for name in names]


@pytest.mark.trio
async def test_a_stream_keeps_to_its_size(served: Served) -> None:
    peer = await watching(served)
    for name in "abc":
        served.tree.make(name)
    await peer.send(Stream(device=1, size=64))
    assert [len(events(await peer.answer())) for _ in range(2)] == [2, 1]


@pytest.mark.trio
async def test_behind_a_client_that_does_not_read_events_overflow_and_others_notice_nothing(
    served: Served,
) -> None:
    slow = await watching(served, max_queued_events=100)
    await slow.send(Stream(device=1, size=MAX_READ))
    quick = await watching(served)
    await quick.send(Stream(device=1, size=MAX_READ))
    made = seen = 0
    while clients(served)[0].devices[0].overflows == 0:
        for _ in range(50):
            served.tree.make(f"{made:0200}")
            made += 1
        while seen < made:
            seen += len(events(await quick.answer()))
    assert seen == made
    received: list[Event] = []
    while not (received and received[-1].mask & IN_Q_OVERFLOW):
        received += events(await slow.answer())
    assert len(received) <= made
    assert [event.name for event in received[:-1]] == [
        b"%0200d" % number for number in range(len(received) - 1)
    ]


@pytest.mark.trio
async def test_a_client_that_asks_and_never_reads_is_not_read_either(served: Served) -> None:
    """What it can make the server hold is bounded by the sockets' buffers."""
    greedy = await watching(served)
    frame = bytes(encode(StatusOf(id=1)))
    sent = 0
    with trio.move_on_after(SECONDS) as scope:
        while True:
            with trio.move_on_after(0.2) as stuck:
                await greedy.stream.send_all(frame * 100)
                sent += 100
            if stuck.cancelled_caught:
                break
    assert not scope.cancelled_caught
    other = await watching(served)
    assert isinstance(await other.ask(Fionread(device=1)), Count)


# The end.


@pytest.mark.trio
@pytest.mark.parametrize(
    "last", [pytest.param(b"", id="between frames"), pytest.param(b"\0\0\0\x10abc", id="mid-frame")]
)
async def test_a_client_that_dies_leaves_nothing(served: Served, last: bytes) -> None:
    peer = await watching(served)
    await peer.send(Stream(device=1, size=4096))
    await peer.send(Read(device=1, size=4096))
    await peer.stream.send_all(last)
    await settle()
    await peer.stream.aclose()
    await settle()
    assert served.tree.table.users.all() == {}
    assert served.tree.root.pins == 0
    assert clients(served) == []


@pytest.mark.trio
async def test_a_client_that_stops_sending_gets_its_answers(served: Served) -> None:
    peer = await watching(served)
    served.tree.make("a")
    waiting = await peer.send(Poll(device=1))
    reading = await peer.send(Read(device=1, size=4096))
    stream = await peer.send(Stream(device=1, size=4096))
    fence = await peer.send(Sync())
    await peer.stream.send_eof()
    answers = {}
    while answer := await peer.answer():
        answers[answer.id] = answer
    assert answers[fence] == Done(id=fence)
    assert events(answers[reading]) == [Event(1, IN_CREATE, 0, b"a")]
    assert code(answers[stream]) == "EBADF"
    assert isinstance(answers[waiting], Ready | Error)
    assert served.tree.table.users.all() == {}


@pytest.mark.trio
async def test_a_bug_costs_its_client_the_connection_and_nobody_else(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("a bug")

    victim, other = await watching(served), await watching(served)
    served.tree.on_fence = fails
    await victim.send(Sync())
    assert await victim.answer() is None
    assert isinstance(await other.ask(Fionread(device=1)), Count)
    assert "a bug" in caplog.text


@pytest.mark.trio
async def test_the_last_events_are_read_before_the_end(served: Served) -> None:
    streaming, reading, idle = [await watching(served) for _ in range(3)]
    await streaming.send(Stream(device=1, size=4096))
    await settle()
    served.tree.unmount()
    last = [IN_UNMOUNT, IN_IGNORED]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.server.drain, SECONDS)
        await settle()
        for peer, request in ((reading, True), (streaming, False), (idle, True)):
            if request:
                await peer.send(Read(device=1, size=4096))
            masks = [event.mask & ~0x40000000 for event in events(await peer.answer())]
            assert masks == last
    for peer in (reading, streaming, idle):
        assert await peer.answer() is None


@pytest.mark.trio
async def test_a_client_that_does_not_read_its_last_events_is_left(
    served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await watching(served)
    served.tree.unmount()
    await served.server.drain(2)
    assert trio.current_time() == pytest.approx(2, abs=0.1)
    assert await peer.answer() is None


@pytest.mark.trio
@pytest.mark.parametrize(
    ("mask", "name"), [(IN_CREATE, b"a"), (IN_ALL_EVENTS | IN_DONT_FOLLOW, None)]
)
async def test_a_link_is_followed_unless_the_mask_says_not(
    served: Served, mask: int, name: bytes | None
) -> None:
    served.tree.make("docs", directory=True)
    served.tree.make("link", target=b"docs")
    peer = await served.connect()
    await peer.device()
    await peer.ask(AddWatch(device=1, path=b"link", mask=mask))
    served.tree.make("docs/a")
    served.tree.remove("link")
    received = events(await peer.ask(Read(device=1, size=4096)))
    assert received[0].name == name
