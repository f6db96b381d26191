# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads share a client: paths are there before their events, and nobody waits for itself."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client, Device, Inotify, InotifyEvent
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE, IN_IGNORED
from fusenotify.protocol.connection import Call
from tests.client.running import Running


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp("threads")
    (top / "source").mkdir()
    (top / "mnt").mkdir()
    with fusenotify.mounted(top / "source", top / "mnt") as mounted:
        yield mounted


class Cycle:
    """What only the garbage collector frees."""

    def __init__(self, *held: object) -> None:
        self.held = held
        self.itself = self


def repeated(seconds: float, *works: Callable[[], object]) -> list[int]:
    """Do each work again and again in a thread of its own; return how often each was done."""
    counts = [0] * len(works)
    end = time.monotonic() + seconds

    def repeat(index: int) -> None:
        while time.monotonic() < end:
            works[index]()
            counts[index] += 1

    threads = [
        threading.Thread(target=repeat, args=(index,), daemon=True) for index in range(len(works))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 10)
        assert not thread.is_alive(), f"they stand still at {counts}"
    return counts


@pytest.mark.mount
def test_every_event_has_its_path_while_watches_come_and_go(mounted: Mounted) -> None:
    busy, quiet = Path(mounted.mountpoint, "busy"), Path(mounted.mountpoint, "quiet")
    busy.mkdir()
    quiet.mkdir()
    odd: list[InotifyEvent] = []
    with Inotify() as inotify:
        inotify.add_watch(quiet, IN_CREATE)
        add = inotify._paths.add

        def slowly(*arguments: object) -> int:
            time.sleep(0.001)
            return add(*arguments)  # type: ignore[arg-type]

        inotify._paths.add = slowly  # type: ignore[assignment, method-assign]

        def read() -> None:
            odd.extend(
                event
                for event in inotify.read(timeout=0.2)
                if event.path not in (str(busy), str(busy / "f"))
            )

        def make() -> None:
            (busy / "f").touch()
            (busy / "f").unlink()

        def watch() -> None:
            inotify.rm_watch(inotify.add_watch(busy, IN_CREATE))

        turns = repeated(2.0, make, watch, read, read)
    assert odd == []
    assert min(turns) > 0


def test_readers_of_one_device_get_each_record_once(running: Running, client: Client) -> None:
    device = client.init()
    device.add_watch("/", IN_CREATE)
    total = 300

    def read(size: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        while True:
            try:
                found += [event.name for event in unpack(device.read(size, timeout=0.5))]
            except BlockingIOError:
                return found

    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(read, size) for size in (32, 64, 4096, 65536)]
        for number in range(total):
            running.make(str(number))
        found = [name for reader in readers for name in reader.result(30)]
    assert sorted(found, key=str) == sorted((b"%d" % n for n in range(total)), key=str)


@pytest.fixture
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the garbage collector run where a thread has the client's lock, and only there."""
    take_records = Call.take_records

    def collect(call: Call, size: int) -> object:
        taken = take_records(call, size)
        if taken is not None:
            gc.collect()
        return taken

    monkeypatch.setattr(Call, "take_records", collect)
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collecting")
@pytest.mark.parametrize("what", ["stream", "device", "client"])
def test_the_garbage_collector_may_close_anything_anywhere(
    running: Running, client: Client, what: str
) -> None:
    class Closing:
        """As a program's own objects do."""

        def __init__(self, owned: Device | Client) -> None:
            self.owned = owned

        def __del__(self) -> None:
            self.owned.close()

    device, second = client.init(), client.init()
    device.add_watch("/", IN_CREATE)
    second.add_watch("/", IN_CREATE)
    made = iter(range(1_000_000))
    clients: list[Client] = []

    def read() -> None:
        running.make(str(next(made)))
        if what == "stream":
            stream = second.stream()
            next(stream)
            Cycle(stream)
        elif what == "device":
            Cycle(Closing(client.init()))
        else:
            other = Client(running.socket)
            Cycle(Closing(other))
            clients.append(other)  # not garbage itself, or its socket would be finalised first
        device.read()

    assert min(repeated(1.0, read, client.sync)) > 0
    gc.collect()
    for closed in clients:
        with pytest.raises(OSError, match="closed"):
            closed.sync()


def test_a_client_that_its_own_finaliser_closes_in_mid_call_is_closed(
    running: Running, collecting: None
) -> None:
    client = Client(running.socket)
    device = client.init()
    device.add_watch("/", IN_CREATE)

    class Closing:
        def __del__(self) -> None:
            client.close()

    Cycle(Closing())
    running.make("a")
    assert [event.name for event in unpack(device.read())] == [b"a"]
    with pytest.raises(OSError, match="closed"):
        client.sync()
    assert client._logic.link._socket.fileno() == -1  # type: ignore[attr-defined]


@pytest.mark.mount
def test_two_readers_of_an_inotify_agree_on_the_ended_watches(mounted: Mounted) -> None:
    place = Path(mounted.mountpoint, "ended")
    place.mkdir()
    with Inotify() as inotify, ThreadPoolExecutor() as threads:
        wds = {inotify.add_watch(place, IN_CREATE)}
        readers = [threads.submit(lambda: [*inotify.read(2)]) for _ in range(2)]
        (place / "a").touch()
        for wd in wds:
            inotify.rm_watch(wd)
        events = [event for reader in readers for event in reader.result(10)]
    assert {event.path for event in events} <= {str(place), str(place / "a")}
    assert all(event.wd in wds for event in events if event.mask & IN_IGNORED)
