# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever interrupts a read, wherever it strikes, every event is read once, and in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import select
import signal
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client, Inotify, InotifyEvent, aio
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE

pytestmark = pytest.mark.mount

TOTAL = 600
NAMES = [b"%d" % number for number in range(TOTAL)]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp("interruptions")
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


@contextlib.contextmanager
def making(place: Path, total: int = TOTAL) -> Iterator[None]:
    """Make files, in bursts, while the block runs, and to the end."""

    def make() -> None:
        for number in range(total):
            (place / str(number)).touch()
            if number % 5 == 0:
                time.sleep(random.random() * 0.001)

    maker = threading.Thread(target=make)
    maker.start()
    try:
        yield
    finally:
        maker.join()


def names(records: bytes) -> list[bytes | None]:
    return [event.name for event in unpack(records)]


# Cancellation.

Limit = Callable[[Callable[[], Awaitable[Any]], float], Awaitable[Any]]


async def by_wait_for(read: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    return await asyncio.wait_for(read(), seconds)


async def by_timeout(read: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await read()


async def by_cancelling_again_and_again(read: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    task = asyncio.ensure_future(read())
    await asyncio.wait([task], timeout=seconds)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def by_a_scope(read: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    with anyio.fail_after(seconds):
        return await read()


async def by_trio(read: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    with trio.move_on_after(seconds):
        return await read()
    raise TimeoutError


@pytest.mark.parametrize(
    ("backend", "limit", "kind"),
    [
        ("asyncio", by_wait_for, "Device"),
        ("asyncio", by_timeout, "stream"),
        ("asyncio", by_timeout, "Inotify"),
        ("asyncio", by_cancelling_again_and_again, "Device"),
        ("asyncio", by_cancelling_again_and_again, "stream"),
        ("asyncio", by_cancelling_again_and_again, "Inotify"),
        ("asyncio", by_a_scope, "Device"),
        ("asyncio", by_cancelling_again_and_again, "loop"),
        ("trio", by_a_scope, "Inotify"),
        ("trio", by_a_scope, "loop"),
        ("trio", by_trio, "Device"),
        ("trio", by_trio, "stream"),
    ],
)
def test_cancelled_reads_lose_nothing_and_say_nothing(
    mounted: Mounted,
    place: Path,
    backend: str,
    limit: Limit,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextlib.asynccontextmanager
    async def reader() -> AsyncIterator[Callable[[], Awaitable[list[bytes | None]]]]:
        if kind in ("Inotify", "loop"):
            async with aio.Inotify() as inotify:
                await inotify.add_watch(place, IN_CREATE)

                async def read() -> list[bytes | None]:
                    if kind == "Inotify":
                        return [os.fsencode(event.name or "") for event in await inotify.read()]
                    async for event in inotify:
                        return [os.fsencode(event.name or "")]
                    return []

                yield read
            return
        async with aio.Client(mounted.socket) as client:
            device = await client.init()
            await device.add_watch(place.name, IN_CREATE)

            async def read_device() -> list[bytes | None]:
                if kind == "Device":
                    return names(await device.read())
                async with contextlib.aclosing(device.stream()) as stream:
                    return names(await anext(stream))

            yield read_device

    async def test() -> int:
        read: list[bytes | None] = []
        cancelled = 0
        async with reader() as reading:
            with making(place):
                pass_on = anyio.current_time() + 30
                while len(read) < TOTAL and anyio.current_time() < pass_on:
                    try:
                        read += await limit(reading, random.random() * 0.002)
                    except TimeoutError:
                        cancelled += 1
        assert read == NAMES
        return cancelled

    assert anyio.run(test, backend=backend) > 20
    gc.collect()
    assert not caplog.records


def test_a_cancelled_init_leaves_no_device(mounted: Mounted) -> None:
    async def test() -> None:
        async with aio.Client(mounted.socket) as client:
            completed = []
            for turns in range(50):
                init = asyncio.ensure_future(client.init())
                for _ in range(turns % 5):
                    await asyncio.sleep(0)
                init.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    completed.append(await init)
            kept = [await client.init()]
            await client.sync()
            (mine,) = [
                seen
                for seen in (await client.status()).clients
                if len(seen.devices) in range(1, 60)
            ]
            assert kept[0].number in [device.device for device in mine.devices]
            made = len(mine.devices)
        assert made == 1 + len(completed) < 50

    asyncio.run(test())


# Signals.


class Struck(Exception):
    """What a signal handler raises."""


class StruckAsByTheSystem(ConnectionResetError):
    """What a signal handler raises that looks like an error of the socket."""


@contextlib.contextmanager
def striking(error: type[Exception]) -> Iterator[None]:
    """Raise an error in this thread when a timer says so."""

    def strike(*_: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, strike)
    # An exception in a callback of the garbage collector is lost, and hypothesis has one.
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.callbacks[:] = callbacks


@pytest.mark.parametrize("error", [Struck, StruckAsByTheSystem])
@pytest.mark.parametrize("kind", ["Device", "Inotify", "loop", "select"])
def test_a_signal_handlers_exception_in_a_read_loses_nothing(
    mounted: Mounted, place: Path, kind: str, error: type[Exception]
) -> None:
    with Client(mounted.socket) as client, Inotify() as inotify, striking(error):
        device = client.init()
        device.add_watch(place.name, IN_CREATE)
        inotify.add_watch(place, IN_CREATE)
        read: list[bytes | None] = []
        struck = 0
        # With select() a read asks and is answered, or gives nothing: it must get that far.
        longest = 0.0015 if kind == "select" else 0.0008
        with warnings.catch_warnings(), making(place):
            warnings.simplefilter("error")
            end = time.monotonic() + 30
            while len(read) < TOTAL and time.monotonic() < end:
                records = b""
                events: list[InotifyEvent] = []
                event: InotifyEvent | None = None
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.random() * longest + 1e-5)
                    if kind == "Device":
                        records = device.read()
                    elif kind == "Inotify":
                        events = inotify.read()
                    elif kind == "select":
                        if select.select([inotify], [], [], 10)[0]:
                            events = inotify.read(timeout=0)
                    else:
                        for event in inotify:  # noqa: B007  (it is looked at below)
                            break
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except error:
                    struck += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                events += [] if event is None else [event]
                read += names(records) + [os.fsencode(each.name or "") for each in events]
        assert read == NAMES
        assert struck > 20


def test_a_signal_handler_may_close_a_client_that_is_being_read(
    mounted: Mounted, place: Path
) -> None:
    for close in ("device", "client", "inotify"):
        client, inotify = Client(mounted.socket), Inotify()
        device = client.init()
        inotify.add_watch(place, IN_CREATE)
        closing = {"device": device, "client": client, "inotify": inotify}[close]
        before = signal.signal(signal.SIGALRM, lambda *_, closing=closing: closing.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(OSError, match=r"closed|no open device"):
                inotify.read(10) if close == "inotify" else device.read(timeout=10)
        finally:
            signal.signal(signal.SIGALRM, before)
            client.close()
            inotify.close()


def test_a_signal_handler_that_would_wait_for_itself_is_refused(mounted: Mounted) -> None:
    with Client(mounted.socket) as client, client.init() as device:
        before = signal.signal(signal.SIGALRM, lambda *_: client.sync())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(OSError, match="in the middle of another call"):
                device.read(timeout=10)
        finally:
            signal.signal(signal.SIGALRM, before)
        client.sync()
