# SPDX-License-Identifier: GPL-2.0-or-later
"""A device in a test: what it watches has names, and its records come behind a fence.

testing.mounts and testing.tree make Watchers of a mount's and of the engine's
devices; assert_events() compares what they give (testing.matching).
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from fusenotify.events import unpack
from fusenotify.masks import IN_ALL_EVENTS, AnyMask, plain
from fusenotify.testing.differences import describe
from fusenotify.testing.expectations import Seen, parse
from fusenotify.testing.matching import matches

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class RawDevice(Protocol):
    """What the client's and the engine's devices have in common."""

    def rm_watch(self, wd: int) -> None: ...

    def fionread(self) -> int: ...

    def close(self) -> None: ...


class Detailed(Protocol):
    """What the client's and the engine's detailed events have in common, for a line."""

    wd: int
    mask: int
    cookie: int
    path: bytes | None
    old_path: bytes | None


class Watcher(ABC):
    """A device that never waits.

    raw is the device itself: a nonblock fusenotify.client.Device, or the engine's.
    """

    raw: RawDevice

    def __init__(self) -> None:
        self._labels: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def watch(
        self,
        path: AnyPath = ".",
        mask: AnyMask = IN_ALL_EVENTS,
        *,
        tree: bool = False,
        exclude: Iterable[str | bytes] = (),
        ignore_self: bool = False,
    ) -> int:
        """Watch a path, or a directory and all below it, and return the watch descriptor.

        path is relative to the tree's root, or absolute and in it.  In records
        it is the watch's name; the root's is ``.``.  mask is an int or words, as
        ``"CREATE|DELETE|ONESHOT"``.  exclude are patterns of what is not told; with
        ignore_self nothing is told of what this process does itself.

        Raises ValueError for a path elsewhere and for an unknown word, TypeError where
        exclude is one pattern, else OSError as inotify_add_watch(2).
        """
        if isinstance(exclude, str | bytes):
            raise TypeError(f"exclude takes several patterns, as in exclude=[{exclude!r}]")
        bits = plain(mask)
        inner = self._relative(os.fsencode(path))
        wd = self._add_watch(inner, bits, tree, exclude, ignore_self)
        self._labels[wd] = str(PurePosixPath(os.fsdecode(inner)))
        return wd

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IGNORED follows.

        Raises OSError (EINVAL) where there is no such watch.
        """
        self.raw.rm_watch(wd)

    @abstractmethod
    def sync(self) -> None:
        """Return when what happened before is queued."""

    def take(self) -> list[Seen]:
        """Return the records of all that happened before, and unqueue them."""
        self.sync()
        seen: list[Seen] = []
        while True:
            try:
                seen += self._read()
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                return seen

    def close(self) -> None:
        """Drop watches and queue; a second close is nothing."""
        self.raw.close()

    def _seen(self, records: bytes) -> list[Seen]:
        """Return what records say."""
        return [
            Seen(self._labels.get(wd, ""), mask, name, cookie)
            for wd, mask, cookie, name in unpack(records)
        ]

    def _seen_whole(self, events: Iterable[Detailed]) -> list[Seen]:
        """Return what a detailed device's events say, of what a line can."""
        return [
            Seen(
                self._labels.get(event.wd, ""),
                event.mask,
                event.path,
                event.cookie if event.old_path is None else 0,
                event.old_path,
            )
            for event in events
        ]

    @abstractmethod
    def _read(self) -> list[Seen]:
        """Return some of what is queued; raise OSError (EAGAIN) where nothing is."""

    @abstractmethod
    def _relative(self, path: bytes) -> bytes:
        """Return a path relative to the tree's root; raise ValueError outside of it."""

    @abstractmethod
    def _add_watch(
        self,
        path: bytes,
        mask: int,
        tree: bool,
        exclude: Iterable[str | bytes],
        ignore_self: bool,
    ) -> int:
        """Watch a path that is relative to the tree's root, as watch() says."""


def assert_events(
    device: Watcher, expected: Iterable[str], *, any_order: bool = False, at_least: bool = False
) -> None:
    """Compare the records of all that happened before with what is expected.

    What is expected is one line a record, as testing.expectations says.  All
    records are taken from the device, so that the next comparison begins behind
    them.

    any_order: the order does not matter.  at_least: there may be other records
    before, between and behind.

    Raises AssertionError that shows the difference, ValueError for a line that
    is no record.
    """
    __tracebackhide__ = True
    wanted = [parse(line) for line in _lines(expected)]
    seen = device.take()
    if not matches(wanted, seen, any_order=any_order, at_least=at_least):
        raise AssertionError(describe(wanted, seen, any_order=any_order, at_least=at_least))


def _lines(expected: Iterable[str]) -> Iterable[str]:
    if isinstance(expected, str):
        raise TypeError(f"expected records are a list of lines, not one text: [{expected!r}]")
    return expected
