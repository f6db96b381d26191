# SPDX-License-Identifier: GPL-2.0-or-later
"""Handlers hear what they hear from watchdog's own observer, and what that one misses."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirModifiedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from fusenotify import Mounted
from fusenotify.protocol.faults import Disconnect, Overflow
from fusenotify.watchdog import FusenotifyObserver, OverflowEvent
from tests.conftest import Mounting

pytestmark = pytest.mark.mount

LAST = "the last one"
Steps = Iterator[None]
Work = Callable[[Path], Steps]


class Heard(FileSystemEventHandler):
    """A handler that passes on its events."""

    def __init__(self) -> None:
        self._events: queue.Queue[FileSystemEvent] = queue.Queue()

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._events.put(event)

    def next(self) -> FileSystemEvent:
        return self._events.get(timeout=10)

    def until(self, last: FileSystemEvent) -> list[FileSystemEvent]:
        """Return all before the last one, and wait for that."""
        return list(iter(self.next, last))


@contextlib.contextmanager
def observing(observer: BaseObserver, place: str | Path, **options: Any) -> Iterator[Heard]:
    heard = Heard()
    observer.schedule(heard, place, **options)
    with observer:
        yield heard


def told(
    observer: BaseObserver, place: Path, work: Work, **options: Any
) -> list[tuple[str, bool, str, str]]:
    """Return a handler's events of some work: kind, synthetic or not, paths from the place.

    Each step is heard before the next one, for both observers look what is in
    a directory that came.
    """
    events: list[FileSystemEvent] = []
    with observing(observer, place, **options) as heard:
        for number, _ in enumerate(work(place)):
            (place / f"{number}").touch()
            events += heard.until(FileCreatedEvent(f"{place}/{number}"))
    below = f"{place}/"
    return [
        (
            type(event).__name__,
            event.is_synthetic,
            f"{os.fsdecode(event.src_path)}/".removeprefix(below),
            f"{os.fsdecode(event.dest_path)}/".removeprefix(below),
        )
        for event in events
    ]


def write(place: Path) -> Steps:
    (place / "file").write_text("x")
    (place / "file").read_text()
    yield
    (place / "file").chmod(0o600)
    (place / "file").unlink()
    yield


def rename(place: Path) -> Steps:
    (place / "file").touch()
    (place / "file").rename(place / "renamed")
    (place / "renamed").rename(place / "tree" / "sub" / "file")
    (place / "tree" / "sub" / "file").rename(place / "tree" / "file")
    yield


def replace(place: Path) -> Steps:
    (place / "old").write_text("old")
    (place / "new").write_text("new")
    (place / "new").replace(place / "old")
    yield


def rename_directories(place: Path) -> Steps:
    (place / "tree" / "full").rename(place / "moved")
    yield
    (place / "moved" / "new").touch()
    yield
    (place / "moved").rename(place / "tree" / "sub" / "full")
    yield


def come_and_go(place: Path) -> Steps:
    outside = place.parent / "outside"
    (place / "tree" / "lone").rename(outside)
    yield
    outside.rename(place / "back")
    yield


def come_with_all_below(place: Path) -> Steps:
    outside = place.parent / "outside"
    outside.mkdir()
    (outside / "a").touch()
    outside.rename(place / "tree" / "in")
    yield
    (place / "tree" / "in" / "b").touch()
    yield


def change_modes(place: Path) -> Steps:
    (place / "tree").chmod(0o700)
    os.utime(place / "tree" / "full" / "a", (1, 1))
    yield


def remove(place: Path) -> Steps:
    (place / "tree" / "full" / "a").unlink()
    (place / "tree" / "full" / "b").rmdir()
    (place / "tree" / "full").rmdir()
    yield


WORK = [
    *(write, rename, replace, rename_directories),
    *(come_and_go, come_with_all_below, change_modes, remove),
]


def prepared(directory: Path) -> Path:
    place = directory / "place"
    (place / "tree" / "full" / "b").mkdir(parents=True)
    (place / "tree" / "sub").mkdir()
    (place / "tree" / "full" / "a").touch()
    (place / "tree" / "lone").touch()
    return place


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("full", [False, True])
def test_handlers_get_the_events_of_watchdogs_own_observer(
    mounted: Mounted, tmp_path: Path, work: Work, recursive: bool, full: bool
) -> None:
    own: Any = Observer
    natively = told(
        own(generate_full_events=full), prepared(tmp_path / "native"), work, recursive=recursive
    )
    through = told(
        FusenotifyObserver(generate_full_events=full),
        prepared(Path(mounted.mountpoint)),
        work,
        recursive=recursive,
    )
    assert through == natively


def test_nothing_is_missed_in_directories_made_a_moment_ago(mounted: Mounted) -> None:
    place = Path(mounted.mountpoint)
    with observing(FusenotifyObserver(), place, recursive=True) as heard:
        for number in range(30):
            deep = place / f"{number}" / "a" / "b"
            deep.mkdir(parents=True)
            (deep / "file").write_text("x")
            shutil.rmtree(place / f"{number}")
        (place / LAST).touch()
        events = heard.until(FileCreatedEvent(f"{place / LAST}"))
    kinds = [type(event) for event in events]
    assert kinds.count(FileCreatedEvent) == kinds.count(FileDeletedEvent) == 30
    assert kinds.count(DirCreatedEvent) == kinds.count(DirDeletedEvent) == 90
    assert not any(event.is_synthetic for event in events)


def test_what_moved_out_is_heard_no_more_until_it_comes_back(mounted: Mounted) -> None:
    place = prepared(Path(mounted.mountpoint))
    outside = place.parent / "outside"
    with observing(FusenotifyObserver(), place, recursive=True) as heard:
        (place / "tree" / "full").rename(outside)
        (outside / "unheard").touch()
        assert heard.next() == DirDeletedEvent(f"{place}/tree/full")
        assert heard.next() == DirModifiedEvent(f"{place}/tree")
        outside.rename(place / "back")
        assert heard.next() == DirCreatedEvent(f"{place}/back")
        assert heard.next() == DirModifiedEvent(f"{place}")
        below = {heard.next().src_path for _ in range(3)}
        assert below == {f"{place}/back/{name}" for name in ("a", "b", "unheard")}
        (place / "back" / "a").unlink()
        assert heard.next() == FileDeletedEvent(f"{place}/back/a")


def test_a_rename_is_told_at_once_with_both_names(mounted: Mounted) -> None:
    place = prepared(Path(mounted.mountpoint))
    with observing(
        FusenotifyObserver(), place, recursive=True, event_filter=[DirMovedEvent, FileMovedEvent]
    ) as heard:
        (place / "tree").rename(place / "moved")
        events = [heard.next() for _ in range(6)]
    assert events[0] == DirMovedEvent(f"{place}/tree", f"{place}/moved")
    assert {(event.src_path, event.dest_path) for event in events[1:]} == {
        (f"{place}/tree/{below}", f"{place}/moved/{below}")
        for below in ("full", "full/a", "full/b", "sub", "lone")
    }


@pytest.mark.parametrize("event_filter", [None, [FileDeletedEvent]])
def test_a_loss_is_told_whatever_is_filtered(mounting: Mounting, event_filter: Any) -> None:
    with mounting(faults=True) as mount, mount.client() as client:
        place = Path(mount.mountpoint)
        with observing(FusenotifyObserver(), place, event_filter=event_filter) as heard:
            client.fault(Overflow())
            overflow = heard.next()
    assert isinstance(overflow, OverflowEvent)
    assert isinstance(overflow, DirModifiedEvent)
    assert (overflow.event_type, overflow.src_path) == ("modified", f"{place}")
    assert overflow.lost is not None


def test_a_loss_is_reported_to_the_watch_of_one_file(mounting: Mounting) -> None:
    with mounting(faults=True) as mount, mount.client() as client:
        file = Path(mount.mountpoint, "file")
        file.touch()
        with observing(FusenotifyObserver(), file) as heard:
            client.fault(Overflow())
            assert isinstance(heard.next(), OverflowEvent)
            file.write_text("x")
            assert file.as_posix() == heard.next().src_path


def test_a_lost_daemon_ends_the_emitter_and_the_log_says_so(
    mounting: Mounting, caplog: pytest.LogCaptureFixture
) -> None:
    with mounting(faults=True) as mount, mount.client() as client:
        observer = FusenotifyObserver()
        with observing(observer, mount.mountpoint):
            (emitter,) = observer.emitters
            with contextlib.suppress(ConnectionResetError):  # it may be quicker than its answer
                client.fault(Disconnect())
            emitter.join(10)
            assert not emitter.is_alive()
    (record,) = caplog.record_tuples
    assert record[1:] == (
        logging.ERROR,
        f"{mount.mountpoint!r} is not watched any more: the daemon is gone",
    )


def test_an_observer_survives_the_daemon_if_told_to(mounting: Mounting) -> None:
    with mounting(faults=True) as mount, mount.client() as client:
        place = Path(mount.mountpoint)
        with observing(FusenotifyObserver(reconnect=True), place, recursive=True) as heard:
            with contextlib.suppress(ConnectionResetError):
                client.fault(Disconnect())
            assert heard.next() == OverflowEvent(f"{place}", lost=None)
            (place / "file").touch()
            assert heard.next() == FileCreatedEvent(f"{place}/file")


def test_the_end_of_the_watched_object_ends_the_emitter(mounted: Mounted) -> None:
    place = prepared(Path(mounted.mountpoint))
    observer = FusenotifyObserver()
    with observing(observer, place / "tree" / "sub", recursive=True) as heard:
        (emitter,) = observer.emitters
        (place / "tree" / "sub").rmdir()
        assert heard.next() == DirDeletedEvent(f"{place}/tree/sub")
        emitter.join(10)
        assert not emitter.is_alive()


def test_filters_are_for_kinds_and_for_what_they_have_in_common(mounted: Mounted) -> None:
    place = Path(mounted.mountpoint)
    wanted = [FileModifiedEvent, FileClosedEvent]
    with observing(FusenotifyObserver(), place, event_filter=wanted) as heard:
        (place / "file").write_text("x")
        assert [heard.next(), heard.next()] == [
            FileModifiedEvent(f"{place}/file"),
            FileClosedEvent(f"{place}/file"),
        ]
    with observing(FusenotifyObserver(), place, event_filter=[FileSystemEvent]) as heard:
        (place / LAST).touch()
        assert heard.next() == FileCreatedEvent(f"{place / LAST}")


def test_a_path_in_no_mount_is_refused_where_it_is_scheduled(tmp_path: Path) -> None:
    with FusenotifyObserver() as observer:
        with pytest.raises(OSError, match="not on a fusenotify mount"):
            observer.schedule(Heard(), tmp_path)
        assert not observer.emitters
