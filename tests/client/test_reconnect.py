# SPDX-License-Identifier: GPL-2.0-or-later
"""An Inotify that survives its daemon, killed or unmounted and mounted again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from fusenotify.client import ConnectionLost, Inotify, InotifyEvent
from fusenotify.client.aio import Inotify as AsyncInotify
from fusenotify.masks import IN_CREATE, IN_DELETE, IN_IGNORED, IN_ISDIR, IN_Q_OVERFLOW, IN_UNMOUNT
from tests.cli.command import ended, fusenotify

pytestmark = pytest.mark.mount

MADE = IN_CREATE | IN_ISDIR
OVERFLOW = InotifyEvent(-1, IN_Q_OVERFLOW, 0, None, "")


class Place:
    """A mount that comes and goes."""

    def __init__(self, top: Path) -> None:
        self.source, self.mnt = top / "source", top / "mnt"
        self.source.mkdir()
        self.mnt.mkdir()
        self.socket = str(top / "x.sock")

    def mount(self) -> None:
        done = fusenotify("mount", "--socket", self.socket, self.source, self.mnt)
        assert done.returncode == 0, done.stderr

    def unmount(self) -> None:
        fusenotify("unmount", self.mnt)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        assert ended(pid)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    for name in ("a", "b"):
        (place.source / name).mkdir()
    place.mount()
    yield place
    place.unmount()


def daemon(inotify: Inotify) -> int:
    client = inotify._client
    assert client is not None
    return client.pid


def path(*names: str | Path) -> str:
    return os.path.join(*names)


def test_after_a_kill_the_watches_are_made_again_under_their_descriptors(place: Place) -> None:
    with Inotify(reconnect=True) as inotify:
        first = inotify.add_watch(place.mnt / "a", IN_CREATE)
        inotify.rm_watch(first)
        assert [event.mask for event in inotify.read(5)] == [IN_IGNORED]
        second = inotify.add_watch(place.mnt / "b", IN_CREATE)
        third = inotify.add_watch(place.mnt / "a", IN_CREATE)
        place.kill(daemon(inotify))
        assert inotify.read(0.05) == []  # nobody is there, and the time passed
        place.mount()
        assert inotify.read(10) == [OVERFLOW]
        for name in ("a", "b"):
            (place.mnt / name / "new").mkdir()
        inotify.sync()
        assert inotify.read(5) == [
            InotifyEvent(third, MADE, 0, "new", path(place.mnt, "a/new")),
            InotifyEvent(second, MADE, 0, "new", path(place.mnt, "b/new")),
        ]
        fourth = inotify.add_watch(place.mnt, IN_DELETE)
        assert fourth not in (first, second, third)
        inotify.rm_watch(second)
        assert [event.wd for event in inotify.read(5)] == [second]


def test_a_tree_watch_is_made_again_as_one(place: Place) -> None:
    (place.source / "a" / "below").mkdir()
    with Inotify(reconnect=True) as inotify:
        tree = inotify.add_watch(place.mnt, IN_CREATE, tree=True)
        directory = inotify.add_watch(place.mnt, IN_DELETE)
        place.kill(daemon(inotify))
        place.mount()
        assert inotify.read(10) == [OVERFLOW]
        (place.mnt / "a" / "below" / "new").mkdir()
        (place.mnt / "b").rmdir()
        inotify.sync()
        assert inotify.read(5) == [
            InotifyEvent(tree, MADE, 0, "a/below/new", path(place.mnt, "a/below/new")),
            InotifyEvent(directory, IN_DELETE | IN_ISDIR, 0, "b", path(place.mnt, "b")),
        ]


def test_a_watch_whose_object_is_gone_ends(place: Place) -> None:
    with Inotify(reconnect=True) as inotify:
        gone = inotify.add_watch(place.mnt / "a", IN_CREATE)
        kept = inotify.add_watch(place.mnt / "b", IN_CREATE)
        place.kill(daemon(inotify))
        (place.source / "a").rmdir()
        place.mount()
        assert inotify.read(10) == [
            OVERFLOW,
            InotifyEvent(gone, IN_IGNORED, 0, None, path(place.mnt, "a")),
        ]
        (place.mnt / "b" / "new").mkdir()
        assert [event.wd for event in inotify.read(5)] == [kept]


def test_an_unmount_in_order_is_survived_too(place: Place) -> None:
    with Inotify(reconnect=True) as inotify:
        wd = inotify.add_watch(place.mnt, IN_CREATE)
        unmounting = threading.Thread(target=place.unmount)  # which waits for who reads
        unmounting.start()
        (told,) = inotify.read(5)
        assert inotify.read(0) == []
        unmounting.join()
        assert (told.wd, told.mask & IN_UNMOUNT) == (wd, IN_UNMOUNT)
        again = threading.Timer(0.2, place.mount)
        again.start()
        assert inotify.read(10) == [OVERFLOW]
        again.join()
        (place.mnt / "new").mkdir()
        assert [event.wd for event in inotify.read(5)] == [wd]


@pytest.mark.parametrize("settings", [{}, {"reconnect": True, "reconnect_seconds": 0.3}])
def test_a_daemon_that_does_not_come_back_is_lost(place: Place, settings: dict[str, float]) -> None:
    with Inotify(**settings) as inotify:  # type: ignore[call-overload]
        inotify.add_watch(place.mnt, IN_CREATE)
        place.kill(daemon(inotify))
        begin = time.monotonic()
        for call in (inotify.read, inotify.sync, partial(inotify.rm_watch, 1)):
            with pytest.raises(ConnectionLost):
                call()
        took = time.monotonic() - begin
        assert settings.get("reconnect_seconds", 0) <= took < 5


def test_closing_ends_the_waiting_for_a_daemon(place: Place) -> None:
    inotify = Inotify(reconnect=True)
    inotify.add_watch(place.mnt, IN_CREATE)
    place.kill(daemon(inotify))
    closing = threading.Timer(0.2, inotify.close)
    closing.start()
    with pytest.raises(OSError, match="closed"):
        inotify.read()
    closing.join()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_one_survives_as_well(place: Place, backend: str) -> None:
    async def test() -> None:
        with anyio.fail_after(20):
            async with AsyncInotify(reconnect=True) as inotify:
                wd = await inotify.add_watch(place.mnt / "a", IN_CREATE)
                assert inotify._client is not None
                place.kill(inotify._client.pid)
                assert await inotify.read(0.05) == []
                with anyio.move_on_after(0.1):
                    await inotify.read()
                await in_thread(place.mount)
                assert await inotify.read() == [OVERFLOW]
                await in_thread((place.mnt / "a" / "new").mkdir)
                assert [event.wd for event in await inotify.read()] == [wd]

    async def in_thread(call: Callable[[], None]) -> None:
        await anyio.to_thread.run_sync(call)

    anyio.run(test, backend=backend)
