# SPDX-License-Identifier: GPL-2.0-or-later
"""A device in a test: its watches have names, and its records are read after a fence.

testing.mounts and testing.tree make Watchers for the devices of a mount and of
the engine; assert_events() compares their records (testing.matching).
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
    """The methods that the client's and the engine's devices have in common."""

    def rm_watch(self, wd: int) -> None: ...

    def fionread(self) -> int: ...

    def close(self) -> None: ...


class Detailed(Protocol):
    """The fields that a line needs of the client's and the engine's detailed events."""

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
        """Watch a path, or with tree everything below a directory, too; return the descriptor.

        path is relative to the tree's root, or an absolute path in the tree.  It
        is the watch's name in records; the name of the root is ``.``.  mask is
        an int or words such as ``"CREATE|DELETE|ONESHOT"``.  exclude has patterns
        of names whose events are left out; ignore_self leaves out the events that
        this process causes.

        Raises ValueError for a path outside the tree and for an unknown word,
        TypeError if exclude is a single pattern, OSError as inotify_add_watch(2).
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

        Raises OSError (EINVAL) if there is no such watch.
        """
        self.raw.rm_watch(wd)

    @abstractmethod
    def sync(self) -> None:
        """Wait until the events of everything done before are queued."""

    def take(self) -> list[Seen]:
        """Return the records of everything done before, and remove them from the queue."""
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
        """Drop the watches and the queue.  Closing twice is harmless."""
        self.raw.close()

    def _seen(self, records: bytes) -> list[Seen]:
        """Return records as Seen."""
        return [
            Seen(self._labels.get(wd, ""), mask, name, cookie)
            for wd, mask, cookie, name in unpack(records)
        ]

    def _seen_whole(self, events: Iterable[Detailed]) -> list[Seen]:
        """Return a detailed device's events as Seen, without what a line cannot show."""
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
        """Return some of the queued records; raise OSError (EAGAIN) if there are none."""

    @abstractmethod
    def _relative(self, path: bytes) -> bytes:
        """Return a path relative to the tree's root; raise ValueError if it is outside."""

    @abstractmethod
    def _add_watch(
        self,
        path: bytes,
        mask: int,
        tree: bool,
        exclude: Iterable[str | bytes],
        ignore_self: bool,
    ) -> int:
        """Do what watch() does, for a path relative to the tree's root."""


def assert_events(
    device: Watcher, expected: Iterable[str], *, any_order: bool = False, at_least: bool = False
) -> None:
    """Compare the records of everything done before with the expected ones.

    expected has a line for each record, in the form of testing.expectations.  All
    records are taken from the device, so the next comparison begins after them.

    With any_order, the order does not matter.  With at_least, there may be other
    records before, between and after the expected ones.

    Raises AssertionError, which shows the difference; ValueError for a line that
    is not a record; TypeError.
    """
    __tracebackhide__ = True
    wanted = [parse(line) for line in _lines(expected)]
    seen = device.take()
    if not matches(wanted, seen, any_order=any_order, at_least=at_least):
        raise AssertionError(describe(wanted, seen, any_order=any_order, at_least=at_least))


def _lines(expected: Iterable[str]) -> Iterable[str]:
    if isinstance(expected, str):
        raise TypeError(f"expected records are a list of lines, not one str: [{expected!r}]")
    return expected
