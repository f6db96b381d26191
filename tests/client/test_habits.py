# SPDX-License-Identifier: GPL-2.0-or-later
"""What Python's programmers expect: iteration, select(), words, text or bytes, early TypeErrors."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from fusenotify.client import Client, ConnectionLost, Inotify, InotifyEvent, aio
from fusenotify.client.locate import SOCKET_VARIABLE
from fusenotify.masks import IN_CREATE, IN_DELETE, IN_Q_OVERFLOW, Mask
from tests.client.running import Running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that stands for the mount."""
    return tmp_path.resolve()


@pytest.fixture
def mountpoint(place: Path) -> bytes:
    return os.fsencode(place)


@pytest.fixture
def inotify(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inotify]:
    monkeypatch.setenv(SOCKET_VARIABLE, running.socket)
    with Inotify() as inotify:
        yield inotify


# Text and bytes.


class BytesPath:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self._path)


@pytest.mark.parametrize(
    ("spelled", "kind"),
    [(str, str), (Path, str), (os.fsencode, bytes), (BytesPath, bytes)],
)
@pytest.mark.parametrize("tree", [False, True])
def test_events_have_text_or_bytes_as_the_path_had(
    running: Running,
    inotify: Any,
    place: Path,
    spelled: Callable[[Path], Any],
    kind: type,
    tree: bool,
) -> None:
    inotify.add_watch(spelled(place), IN_CREATE, tree=tree)
    running.make("a\udce9")
    inotify.sync()
    (event,) = inotify.read(5)
    assert (isinstance(event.name, kind), isinstance(event.path, kind)) == (True, True)
    assert os.fsencode(event.path) == os.fsencode(place) + b"/a\xe9"
    assert os.fsencode(event.name) == b"a\xe9"


def test_text_equals_the_bytes_that_programs_from_before_compare_it_with(
    running: Running, inotify: Any, place: Path
) -> None:
    inotify.add_watch(place, IN_CREATE)
    running.make("a\udce9")
    inotify.sync()
    (event,) = inotify.read(5)
    assert event.name == b"a\xe9"
    assert event.name == b"a\xe9"
    assert event.name not in (b"a", "a")
    assert event.path == os.fsencode(place) + b"/a\xe9"
    assert hash(event.name) == hash("a\udce9")


def test_each_watch_has_its_own_kind_of_text(running: Running, inotify: Any, place: Path) -> None:
    running.make("docs", directory=True)
    (place / "docs").mkdir()
    inotify.add_watch(place, IN_CREATE)
    inotify.add_watch(os.fsencode(place / "docs"), IN_CREATE)
    running.make("a", "docs/b")
    inotify.sync()
    assert [event.name for event in inotify.read(5)] == ["a", b"b"]


@pytest.mark.parametrize("spelled", [os.fspath, os.fsencode])
def test_an_overflow_has_an_empty_path_of_the_first_watchs_kind(
    running: Running, place: Path, spelled: Callable[[Path], Any]
) -> None:
    with Inotify[Any](socket=running.socket, max_queued_events=1) as inotify:
        watched: Any = spelled(place)
        inotify.add_watch(watched, IN_CREATE)
        running.make("a", "b")
        assert inotify.read(5)[1] == (-1, IN_Q_OVERFLOW, 0, None, watched[:0])


# Masks.


def test_masks_are_words_and_are_told_as_flags(
    running: Running, inotify: Inotify, place: Path
) -> None:
    inotify.add_watch(place, ["create", "DELETE|ONLYDIR", IN_CREATE])
    running.make("a", directory=True)
    inotify.sync()
    (event,) = inotify.read(5)
    assert isinstance(event.mask, Mask)
    assert str(event.mask) == "CREATE|ISDIR"
    assert event == InotifyEvent(1, Mask.CREATE | Mask.ISDIR, 0, "a", f"{place}/a")


def test_the_syscalls_take_words(running: Running, client: Client) -> None:
    device = client.init()
    device.add_watch("/", "CREATE|DELETE")
    running.make("a")
    assert device.poll(5)

    async def test() -> None:
        async with aio.Client(running.socket) as client:
            device = await client.init()
            await device.add_watch("/", ["DELETE"])
            running.do(running.tree.remove, "a")
            assert await device.poll(5)

    anyio.run(test)


# Iteration.


def test_a_loop_gives_events_as_they_come(running: Running, inotify: Inotify, place: Path) -> None:
    inotify.add_watch(place, IN_CREATE | IN_DELETE)
    running.make("a", "b")
    seen = []
    for event in inotify:
        seen.append(event.name)
        if event.name == "b":
            running.make("c")
        if event.name == "c":
            break
    assert seen == ["a", "b", "c"]


def test_events_that_a_loop_leaves_are_there_for_the_next_read(
    running: Running, inotify: Inotify, place: Path
) -> None:
    inotify.add_watch(place, IN_CREATE)
    running.make("a", "b", "c", "d")
    inotify.sync()
    assert next(iter(inotify)).name == "a"
    assert next(inotify.events(timeout=0)).name == "b"
    assert [event.name for event in inotify.read(5)] == ["c", "d"]


def test_a_loop_with_a_timeout_ends_where_nothing_comes(
    running: Running, inotify: Inotify, place: Path
) -> None:
    inotify.add_watch(place, IN_CREATE)
    running.make("a", "b")
    inotify.sync()
    assert [event.name for event in inotify.events(timeout=0)] == ["a", "b"]
    assert list(inotify.events(timeout=0.01)) == []


def test_a_loop_ends_when_it_is_closed(running: Running, inotify: Inotify, place: Path) -> None:
    inotify.add_watch(place, IN_CREATE)
    running.make("a")
    seen = []
    for event in inotify:
        seen.append(event.name)
        threading.Timer(0.05, inotify.close).start()  # in the midst of the next wait
    assert seen == ["a"]
    assert list(inotify) == []


def test_loops_of_several_threads_give_each_event_once(
    running: Running, inotify: Inotify, place: Path
) -> None:
    inotify.add_watch(place, IN_CREATE)
    with ThreadPoolExecutor() as threads:
        loops = [
            threads.submit(lambda: [event.name for event in inotify.events(timeout=0.5)])
            for _ in range(3)
        ]
        for number in range(200):
            running.make(str(number))
        seen = [name for loop in loops for name in loop.result(20)]
    assert sorted(seen, key=lambda name: int(name or -1)) == [str(number) for number in range(200)]


def test_a_loop_gets_the_daemons_end(running: Running, inotify: Inotify, place: Path) -> None:
    inotify.add_watch(place, IN_CREATE)
    running.stop()
    with pytest.raises(ConnectionLost):
        next(iter(inotify))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_loop_does_all_that(running: Running, place: Path, backend: str) -> None:
    async def test() -> None:
        async with aio.Inotify(socket=running.socket) as inotify:
            await inotify.add_watch(place, "CREATE")
            running.make("a", "b", "c")
            await inotify.sync()
            async for event in inotify:
                assert event.name == "a"
                break
            assert [event.name async for event in inotify.events(timeout=0)] == ["b", "c"]
            async with anyio.create_task_group() as group:
                group.start_soon(inotify.close)
                assert [event async for event in inotify] == []

    anyio.run(test, backend=backend)


# select() and its like.


def is_readable(waiting: Any) -> bool:
    return bool(select.select([waiting], [], [], 0)[0])


def becomes_readable(waiting: Any) -> bool:
    return bool(select.select([waiting], [], [], 10)[0])


def drained(inotify: Inotify) -> list[str | None]:
    """Read while it is readable, as a program with a loop of its own does."""
    seen: list[str | None] = []
    while is_readable(inotify):
        seen += [event.name for event in inotify.read(timeout=0)]
    return seen


def test_select_wakes_for_events_and_for_nothing_else(
    running: Running, inotify: Inotify, place: Path
) -> None:
    number = inotify.fileno()
    inotify.add_watch(place, IN_CREATE)
    inotify.sync()
    assert drained(inotify) == []
    assert not is_readable(inotify)
    for name in ("a", "b", "c"):
        running.make(name)
        assert becomes_readable(inotify)
        running.settle()
        assert drained(inotify) == [name]
        inotify.sync()
        assert drained(inotify) == []
    assert inotify.fileno() == number


def test_events_are_not_hidden_by_other_answers(
    running: Running, inotify: Inotify, place: Path
) -> None:
    wd = inotify.add_watch(place, IN_CREATE)
    inotify.fileno()
    running.make("a")
    inotify.sync()  # which receives what the poll was answered, too
    inotify.add_watch(place, IN_CREATE | IN_DELETE)
    assert is_readable(inotify)
    assert drained(inotify) == ["a"]
    inotify.rm_watch(wd)
    assert becomes_readable(inotify)


def test_events_that_a_loop_left_can_be_read(
    running: Running, inotify: Inotify, place: Path
) -> None:
    inotify.add_watch(place, IN_CREATE)
    running.make("a", "b")
    inotify.sync()
    next(iter(inotify))
    assert is_readable(inotify)
    assert drained(inotify) == ["b"]


def test_devices_of_one_client_wake_each_for_itself(running: Running, client: Client) -> None:
    one, other = client.init(nonblock=True), client.init(nonblock=True)
    one.add_watch("/", IN_CREATE)
    other.add_watch("/", IN_DELETE)
    for device in (one, other):
        device.fileno()
    running.make("a")
    assert becomes_readable(one)
    with pytest.raises(BlockingIOError):
        other.read()  # which may have been woken, for the socket is the client's
    assert is_readable(one)
    assert not is_readable(other)
    one.read()
    running.do(running.tree.remove, "a")
    assert becomes_readable(other)
    other.read()


def test_asyncios_add_reader_calls_for_each_event(
    running: Running, inotify: Inotify, place: Path
) -> None:
    seen: list[str | None] = []

    async def test() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def read() -> None:
            came = [event.name for event in inotify.read(timeout=0)]
            seen.extend(came)
            if came and len(seen) < 5:
                running.make(f"{len(seen)}")
            elif len(seen) == 5:
                done.set()

        inotify.add_watch(place, IN_CREATE)
        loop.add_reader(inotify, read)
        running.make("0")
        async with asyncio.timeout(10):
            await done.wait()
        loop.remove_reader(inotify)

    asyncio.run(test())
    assert seen == ["0", "1", "2", "3", "4"]


def test_the_end_of_the_daemon_is_something_to_read(
    running: Running, inotify: Inotify, place: Path
) -> None:
    inotify.add_watch(place, IN_CREATE)
    inotify.fileno()
    running.stop()
    for _ in range(2):
        assert becomes_readable(inotify)
        with pytest.raises(ConnectionLost):
            inotify.read(timeout=0)


def test_one_descriptor_outlives_the_daemon(running: Running, place: Path) -> None:
    with Inotify(socket=running.socket, reconnect=True) as inotify:
        wd = inotify.add_watch(place, IN_CREATE)
        number = inotify.fileno()
        running.stop()
        for _ in range(3):
            assert becomes_readable(inotify)
            assert inotify.read(timeout=0) == []
            assert not is_readable(inotify)  # so that waiting for a daemon costs nothing
        another = Running(running.socket, os.fsencode(place))
        another.start()
        try:
            told: list[InotifyEvent] = []
            while not told and becomes_readable(inotify):
                told = inotify.read(timeout=0)
            assert [event.mask for event in told] == [IN_Q_OVERFLOW]
            another.make("a")
            assert becomes_readable(inotify)
            while not (told := inotify.read(timeout=0)):
                pass
            assert [(event.wd, event.name) for event in told] == [(wd, "a")]
            assert inotify.fileno() == number
        finally:
            another.stop()


def test_a_closed_one_has_no_descriptor(running: Running, client: Client, place: Path) -> None:
    device = client.init()
    before = len(os.listdir("/proc/self/fd"))
    inotify = Inotify(socket=running.socket)
    inotify.fileno()
    inotify.add_watch(place, IN_CREATE)
    inotify.close()
    with pytest.raises(OSError, match="closed") as refused:
        inotify.fileno()
    assert refused.value.errno == errno.EBADF
    del inotify, refused
    running.settle()
    assert len(os.listdir("/proc/self/fd")) == before
    client.close()
    with pytest.raises(OSError, match="closed"):
        device.fileno()


# What is wrong is said to who wrote it.

WRONG: list[Callable[[Any, Any], object]] = [
    lambda new, _: new(socket=5),
    lambda new, _: new(socket=["x"]),
    lambda new, _: new(semantics=6),
    lambda new, _: new(max_queued_events="4"),
    lambda new, _: new(max_queued_events=4.0),
    lambda new, _: new(detailed="yes"),
    lambda new, _: new(reconnect=1),
    lambda new, _: new(reconnect_seconds="30"),
    lambda _, inotify: inotify.add_watch(5, IN_CREATE),
    lambda _, inotify: inotify.add_watch(None, IN_CREATE),
    lambda _, inotify: inotify.add_watch("/etc", None),
    lambda _, inotify: inotify.add_watch("/etc", 1.0),
    lambda _, inotify: inotify.add_watch("/etc", b"CREATE"),
    lambda _, inotify: inotify.add_watch("/etc", IN_CREATE, tree="yes"),
    lambda _, inotify: inotify.add_watch("/etc", IN_CREATE, ignore_self=1),
    lambda _, inotify: inotify.add_watch("/etc", IN_CREATE, exclude="*.o"),
    lambda _, inotify: inotify.add_watch("/etc", IN_CREATE, exclude=[5]),
    lambda _, inotify: inotify.rm_watch("1"),
    lambda _, inotify: inotify.read("1"),
    lambda _, inotify: inotify.events("1"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_types_are_refused_without_a_daemon(wrong: Callable[[Any, Any], object]) -> None:
    with pytest.raises(TypeError):
        wrong(Inotify, Inotify(socket="/nowhere"))

    async def test() -> None:
        outcome: Any = wrong(aio.Inotify, aio.Inotify(socket="/nowhere"))
        assert inspect.isawaitable(outcome)
        await outcome

    with pytest.raises(TypeError):
        anyio.run(test)


WRONG_CALLS: list[Callable[[Any, Any], object]] = [
    lambda client, _: client.init(nonblock="yes"),
    lambda client, _: client.init(detailed=1),
    lambda client, _: client.init(max_queued_events="4"),
    lambda client, _: client.init(semantics=b"linux-6"),
    lambda client, _: client.set_limits(max_user_watches="4"),
    lambda client, _: client.fault("overflow"),
    lambda _, device: device.add_watch(5, IN_CREATE),
    lambda _, device: device.add_watch("/", None),
    lambda _, device: device.add_watch("/", IN_CREATE, tree=1),
    lambda _, device: device.rm_watch("1"),
    lambda _, device: device.read("4096"),
    lambda _, device: device.read(timeout="1"),
    lambda _, device: device.poll("1"),
]


@pytest.mark.parametrize("wrong", WRONG_CALLS)
def test_wrong_types_never_reach_the_daemon(
    running: Running, wrong: Callable[[Any, Any], object]
) -> None:
    with Client(running.socket) as client:
        device = client.init()
        with pytest.raises(TypeError):
            wrong(client, device)
        client.sync()  # the connection is as it was

    async def test() -> None:
        async with aio.Client(running.socket) as client:
            device = await client.init()
            outcome: Any = wrong(client, device)
            assert inspect.isawaitable(outcome)
            with pytest.raises(TypeError):
                await outcome
            await client.sync()

    anyio.run(test)


@pytest.mark.parametrize("new", [Client, aio.Client])
def test_a_socket_is_a_path(new: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        new(5)


def test_a_wrong_type_is_named_with_the_parameter(running: Running) -> None:
    wrong: Any = "4"
    with (
        Client(running.socket) as client,
        pytest.raises(TypeError, match=r"^max_queued_events: Expected `int \| None`, got `str`$"),
    ):
        client.init(max_queued_events=wrong)
