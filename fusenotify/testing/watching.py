# SPDX-License-Identifier: GPL-2.0-or-later
"""A device in a test: its watches have names, and its records are read after a fence.

testing.mounts and testing.tree make Watchers for the devices of a mount and of
the engine; assert_events() compares their records (testing.matching).
"""

from __future__ import annotations

import contextlib
import errno
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from pathlib import PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from fusenotify.bits import names
from fusenotify.events import unpack
from fusenotify.masks import IN_ALL_EVENTS, AnyMask, plain
from fusenotify.testing import register
from fusenotify.testing.differences import describe
from fusenotify.testing.expectations import Seen, parse
from fusenotify.testing.matching import matches

# How many records that a test took are kept for its report.
MOST_TAKEN = 100

_HALVES = (
    "OLD -> NAME is what a detailed device says, @pytest.mark.fusenotify(detailed=True) or "
    "device(detailed=True); for others a rename is MOVED_FROM and MOVED_TO"
)

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Named(Protocol):
    """A mount or an engine's tree, which has devices.  name is for reports."""

    name: str


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

    def __init__(self, owner: Named, is_detailed: bool) -> None:
        """owner is the mount or the tree that it is of."""
        self.owner = owner
        self.name = ""  # that of its fixture, for reports
        self.is_detailed = is_detailed
        # For reports: what it watches now, and the latest records that the test took.
        self.watching: dict[int, str] = {}
        self.taken: deque[Seen] = deque(maxlen=MOST_TAKEN)
        self.taken_in_all = 0
        self._labels: dict[int, str] = {}
        self._untaken: list[Seen] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.owner.name}>"

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
        label = self._labels[wd] = str(PurePosixPath(os.fsdecode(inner)))
        below = " and all below" if tree else ""
        events = "|".join(names(bits)) if bits != IN_ALL_EVENTS else "all events"
        self.watching[wd] = f"{label}{below} ({events})"
        return wd

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IGNORED follows.

        Raises OSError (EINVAL) if there is no such watch.
        """
        self.raw.rm_watch(wd)
        self.watching.pop(wd, None)

    @abstractmethod
    def sync(self) -> None:
        """Wait until the events of everything done before are queued."""

    def take(self) -> list[Seen]:
        """Return the records of everything done before, and remove them from the queue."""
        self.sync()
        self._unqueue()
        seen, self._untaken = self._untaken, []
        self.taken.extend(seen)
        self.taken_in_all += len(seen)
        return seen

    def untaken(self) -> list[Seen]:
        """Return what take() would return, and leave it there.

        A closed device returns the records that were left when it was closed.
        """
        if not self._closed:
            self.sync()
            self._unqueue()
        return list(self._untaken)

    def begin(self) -> None:
        """Forget which records were taken, because another test begins."""
        self.taken.clear()
        self.taken_in_all = 0

    def close(self) -> None:
        """Drop the watches and the queue.  Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            register.leave(self)
            with contextlib.suppress(OSError):  # whatever the matter is, it is closed now
                self._unqueue()
        self.raw.close()

    @property
    def has_watched(self) -> bool:
        """Whether watch() was ever called."""
        return bool(self._labels)

    @abstractmethod
    def give_up(self) -> None:
        """Make a call that another thread waits in end with OSError."""

    def _unqueue(self) -> None:
        """Move all queued records into _untaken."""
        while True:
            try:
                self._untaken += self._read()
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                return

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
    if not isinstance(device, Watcher):
        raise TypeError(f"only devices have records, and {device!r} is not a device")
    wanted = [parse(line) for line in _lines(expected)]
    seen = device.take()
    if not matches(wanted, seen, any_order=any_order, at_least=at_least):
        difference = describe(wanted, seen, any_order=any_order, at_least=at_least)
        if not device.is_detailed and any(one.old_name is not None for one in wanted):
            difference += f"\n{_HALVES}"
        raise AssertionError(difference)


def _lines(expected: Iterable[str]) -> Iterable[str]:
    if isinstance(expected, str):
        raise TypeError(f"expected records are a list of lines, not one str: [{expected!r}]")
    return expected
