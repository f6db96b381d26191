# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree watch of ours, and what takes its place on Linux: a watch on each directory.

On Linux the test adds a watch when a directory came to be in the tree and
removes it when it left, before anything else happens; no program could do
that.  So scenarios run in steps: each ends before a directory that it made or
moved is used.

Invariant
    What is recorded is the same kind of record from both: the watched
        directory's own without a name, all others with the path from it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_MASK_ADD,
    IN_MOVE_SELF,
    IN_ONESHOT,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
)
from fusenotify.client import Client
from fusenotify.events import Event, unpack
from tests.differential.linux import LinuxDevice
from tests.differential.scenario import readable

_UNASKED = IN_Q_OVERFLOW | IN_IGNORED | IN_UNMOUNT


class AnyTree(Protocol):
    """A tree, watched or to be watched.

    top is the directory, beside one that is not in the tree.
    """

    top: Path
    beside: Path

    def watch(self, mask: int = IN_ALL_EVENTS) -> int: ...

    def rm_watch(self, wd: int) -> None: ...

    def step(self) -> list[Event]:
        """End a step: return what it said."""


Steps = Callable[[AnyTree], Iterator[Any]]


class OurTree:
    """One tree watch, on a device of its own."""

    def __init__(self, client: Client, mountpoint: Path, place: Path, queue: int | None) -> None:
        self.top, self.beside = _places(place)
        self._client = client
        self._inner = os.fsencode(self.top).removeprefix(os.fsencode(mountpoint))
        self._device = client.init(nonblock=True, max_queued_events=queue)

    def watch(self, mask: int = IN_ALL_EVENTS) -> int:
        return self._device.add_watch(self._inner, mask, tree=True)

    def rm_watch(self, wd: int) -> None:
        self._device.rm_watch(wd)

    def step(self) -> list[Event]:
        self._client.sync()
        return [event._replace(wd=min(event.wd, 1)) for event in _drained(self._device.read)]

    def close(self) -> None:
        self._device.close()


class LinuxTree:
    """A watch of the kernel's on each directory, on one descriptor."""

    def __init__(self, place: Path, queue: int | None) -> None:
        self.top, self.beside = _places(place)
        self._device = LinuxDevice(queue)
        self._paths: dict[int, bytes] = {}
        self._identities: dict[int, tuple[int, int]] = {}
        self._mask = 0
        self._one_shot = False

    def watch(self, mask: int = IN_ALL_EVENTS) -> int:
        answer = self._device.add_watch(self.top, mask & ~IN_ONESHOT)
        wanted = mask & (IN_ALL_EVENTS | IN_EXCL_UNLINK)
        self._one_shot = bool(mask & IN_ONESHOT)
        self._mask = self._mask | wanted if mask & IN_MASK_ADD else wanted
        self._catch_up()
        return min(answer, 1)

    def rm_watch(self, wd: int) -> None:
        assert wd == 1
        self._device.rm_watch(wd)
        for other in self._identities.keys() - {wd}:
            with contextlib.suppress(OSError):  # it is gone with its directory
                self._device.rm_watch(other)
        self._mask = 0

    def step(self) -> list[Event]:
        raw = _drained(self._device.read)
        left = self._catch_up() if self._mask else set[int]()
        said = [said for event in raw if (said := self._said(event, left)) is not None]
        if self._one_shot:
            fired = [event for event in said if event.mask & self._mask & IN_ALL_EVENTS][:1]
            if not fired:
                return []
            self.rm_watch(1)
            self._one_shot = False
            _drained(self._device.read)
            return [*fired, Event(1, IN_IGNORED)]
        return said

    def close(self) -> None:
        self._device.close()

    def _said(self, event: Event, left: set[int]) -> Event | None:
        """Return an event as a tree watch says it, or None where it would not."""
        wd, mask, cookie, name = event
        if mask & IN_Q_OVERFLOW:
            return event
        if mask & IN_IGNORED and wd != 1:
            return None
        if mask & IN_MOVE_SELF and wd in left:
            return None
        path = self._paths[wd]
        return Event(1, mask, cookie, path + name if name is not None else path or None)

    def _catch_up(self) -> set[int]:
        """Watch what is in the tree and no more what left it; return what did."""
        outside = {_identity(path) for path in _directories(self.beside)}
        left = {wd for wd, identity in self._identities.items() if identity in outside}
        for wd in left:
            self._device.rm_watch(wd)
            del self._identities[wd]
        if self.top.exists():
            for directory in _directories(self.top):
                # The mask is the watch's own already, but for the new.
                wd = self._device.add_watch(os.fsencode(directory), self._mask)
                path = os.fsencode(os.path.relpath(directory, self.top))
                self._paths[wd] = b"" if path == b"." else path + b"/"
                self._identities[wd] = _identity(directory)
        _drained(self._device.read)  # what the walk itself did
        return left


def recorded(steps: Steps, tree: AnyTree) -> list[str]:
    """Run a scenario; return what it yielded and what was said, step by step."""
    lines: list[str] = []
    cookies: dict[int, int] = {}
    for number, answer in enumerate(steps(tree), 1):
        lines.append(f"step {number}" if answer is None else f"step {number}: {answer!r}")
        lines += readable(tree.step(), cookies)
    return lines


def _places(place: Path) -> tuple[Path, Path]:
    for name in ("top", "beside"):
        (place / name).mkdir()
    return place / "top", place / "beside"


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _directories(top: Path) -> list[str]:
    return [path for path, _, _ in os.walk(top)]


def _drained(read: Callable[[int], bytes]) -> list[Event]:
    records = b""
    while True:
        try:
            records += read(1 << 20)
        except BlockingIOError:
            return list(unpack(records))
