# SPDX-License-Identifier: GPL-2.0-or-later
"""A child of fork() does what it likes with what it inherited; the parent goes on."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client, Device, Inotify, aio
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE

pytestmark = [
    pytest.mark.mount,
    # What is tested is a fork with threads; Python 3.12 warns of every one.
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp("fork")
    (top / "source").mkdir()
    (top / "mnt").mkdir()
    with fusenotify.mounted(top / "source", top / "mnt") as mounted:
        yield mounted


@pytest.fixture
def place(mounted: Mounted, request: pytest.FixtureRequest) -> Path:
    """A directory of the test's own in the mount."""
    path = Path(mounted.mountpoint, str(abs(hash(request.node.nodeid))))
    path.mkdir()
    return path


def in_child(do: Callable[[], object]) -> str:
    """Return the errno with which do() failed in a child process, or otherwise its word."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(10)
        said = "an exception"
        try:
            do()
            said = "done"
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, "an OSError")
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(pid, 0)[1] == 0, "the child hung"
    return said


class Blocking:
    """A blocking client of all kinds, watching a directory."""

    def __init__(self, mounted: Mounted, place: Path) -> None:
        self.place = place
        self.client = Client(mounted.socket)
        self.device: Device = self.client.init()
        self.device.add_watch(place.name, IN_CREATE)
        self.inotify = Inotify()
        self.inotify.add_watch(place, IN_CREATE)

    def check_hears(self, name: str) -> None:
        (self.place / name).touch()
        assert [event.name for event in self.inotify.read(5)] == [name]
        (record,) = unpack(self.device.read(timeout=5))
        assert record.name == name.encode()

    def close(self) -> None:
        self.client.close()
        self.inotify.close()


@pytest.fixture
def blocking(mounted: Mounted, place: Path) -> Iterator[Blocking]:
    blocking = Blocking(mounted, place)
    yield blocking
    blocking.close()


def leave(*managers: Any) -> None:
    for manager in managers:
        with manager:
            pass


@pytest.mark.parametrize(
    "do",
    [
        pytest.param(lambda b: b.close(), id="closes"),
        pytest.param(lambda b: b.device.close(), id="closes the device"),
        pytest.param(lambda b: leave(b.device, b.client, b.inotify), id="leaves with blocks"),
        pytest.param(lambda b: None, id="ends"),
    ],
)
def test_the_parent_goes_on_when_a_child(
    blocking: Blocking, do: Callable[[Blocking], object]
) -> None:
    assert in_child(lambda: do(blocking)) == "done"
    blocking.check_hears("a")
    assert in_child(lambda: do(blocking)) == "done"
    blocking.check_hears("b")


@pytest.mark.parametrize(
    "do",
    [
        pytest.param(lambda b: b.device.read(), id="read"),
        pytest.param(lambda b: b.device.poll(), id="poll"),
        pytest.param(lambda b: b.device.fionread(), id="fionread"),
        pytest.param(lambda b: next(b.device.stream()), id="stream"),
        pytest.param(lambda b: b.device.add_watch("/", IN_CREATE), id="add_watch"),
        pytest.param(lambda b: b.client.init(), id="init"),
        pytest.param(lambda b: b.client.sync(), id="sync"),
        pytest.param(lambda b: b.inotify.read(), id="Inotify.read"),
        pytest.param(lambda b: b.inotify.add_watch(b.place, IN_CREATE), id="Inotify.add_watch"),
        pytest.param(lambda b: b.inotify.rm_watch(1), id="Inotify.rm_watch"),
        pytest.param(lambda b: b.inotify.sync(), id="Inotify.sync"),
    ],
)
def test_an_inherited_client_is_a_bad_descriptor_in_the_child(
    blocking: Blocking, do: Callable[[Blocking], object]
) -> None:
    assert in_child(lambda: do(blocking)) == "EBADF"
    blocking.check_hears("a")


def test_a_childs_garbage_collector_ends_no_stream(blocking: Blocking) -> None:
    streams = [blocking.device.stream()]
    (blocking.place / "a").touch()
    assert [event.name for event in unpack(next(streams[0]))] == [b"a"]

    def collect() -> None:
        streams.clear()
        gc.collect()

    assert in_child(collect) == "done"
    (blocking.place / "b").touch()
    assert [event.name for event in unpack(next(streams[0]))] == [b"b"]
    streams[0].close()


def test_a_child_that_ends_as_python_ends_takes_nothing(blocking: Blocking) -> None:
    pid = os.fork()
    if not pid:
        try:
            sys.exit(0)
        except SystemExit:
            del blocking
            gc.collect()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    blocking.check_hears("a")


def test_a_child_of_multiprocessing_takes_nothing(blocking: Blocking) -> None:
    process = multiprocessing.get_context("fork").Process(target=blocking.close)
    process.start()
    process.join(10)
    assert process.exitcode == 0
    blocking.check_hears("a")


def test_a_fork_while_other_threads_are_in_the_client(blocking: Blocking) -> None:
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            blocking.client.sync()
            blocking.inotify.sync()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert in_child(blocking.client.sync) == "EBADF"
            assert in_child(blocking.inotify.sync) == "EBADF"
            assert in_child(blocking.close) == "done"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    blocking.check_hears("a")


def test_a_child_may_make_its_own(mounted: Mounted, place: Path) -> None:
    inotify = Inotify()  # which is not connected yet

    def watch() -> None:
        inotify.add_watch(place, IN_CREATE)
        (place / "a").touch()
        assert [event.name for event in inotify.read(5)] == ["a"]
        with Client(mounted.socket) as client:
            client.sync()

    assert in_child(watch) == "done"


def test_the_daemon_gets_the_parents_end_while_a_child_lives(mounted: Mounted) -> None:
    hold, let_go = os.pipe()
    with Client(mounted.socket) as watcher:
        before = len(watcher.status().clients)
        parent = os.fork()
        if not parent:
            client = Client(mounted.socket)
            if not os.fork():
                os.close(let_go)
                os.read(hold, 1)
            assert client
            os._exit(0)
        os.waitpid(parent, 0)
        end = time.monotonic() + 10
        while len(watcher.status().clients) > before:
            assert time.monotonic() < end
    os.close(let_go)
    os.close(hold)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_client_of_a_parent_goes_on(mounted: Mounted, place: Path, backend: str) -> None:
    def carried_out(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run work in a child, whose event loop is the parent's."""
        steps = work()
        try:
            while True:
                steps.send(None)
        except StopIteration:
            pass

    async def test() -> None:
        async with aio.Client(mounted.socket) as client, aio.Inotify() as inotify:
            device = await client.init()
            await device.add_watch(place.name, IN_CREATE)
            await inotify.add_watch(place, IN_CREATE)
            for close in (client.close, device.close, inotify.close):
                assert in_child(partial(carried_out, close)) == "done"
            for use in (client.sync, device.read, inotify.read, inotify.sync):
                assert in_child(partial(carried_out, use)) == "EBADF"
            (place / "a").touch()
            with anyio.fail_after(10):
                assert [event.name for event in await inotify.read()] == ["a"]
                assert [event.name for event in unpack(await device.read())] == [b"a"]

    anyio.run(test, backend=backend)
