# SPDX-License-Identifier: GPL-2.0-or-later
"""Events with paths, and what each watch stands for.

client.watching uses it; it does no I/O.

Invariant
    A watch keeps the descriptor under which it was made, also on another
        device after a reconnection; a descriptor is not used for another one.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fusenotify.events import unpack
from fusenotify.masks import (
    IN_IGNORED,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
)
from fusenotify.protocol.details import DetailedEvent


class InotifyEvent(NamedTuple):
    """One event.

    wd, mask, cookie and name (bytes, None where it is about the watched
    object itself) are those of inotify(7); of a tree watch, name is the path
    from the watched directory, which ends in a slash where a directory below
    says it of itself.  path is that of the object: the watched path, as it was
    given, and the name, without a slash at the end; b"" for IN_Q_OVERFLOW.
    """

    wd: int
    mask: int
    cookie: int
    name: bytes | None
    path: bytes


class DetailedInotifyEvent(NamedTuple):
    """One event with all that is known of it.  What is not is None.

    wd, mask, cookie, name and path are those of InotifyEvent; the rest, but for
    old_path, is that of DetailedEvent (fusenotify.protocol.details): sequence is
    its number in the mount's order, time in ns since 1970; pid, uid, gid and
    command are of the process that did it, where we may know.

    A rename within what is watched is one event: its mask is that of IN_MOVED_TO,
    path the new one and old_path the one before, the watched path as it was given
    and the old name.

    lost is how many events an IN_Q_OVERFLOW stands for; None where nobody knows,
    because the connection was lost.  Then sequence is 0: numbers begin again.
    """

    wd: int
    mask: int
    cookie: int
    name: bytes | None
    path: bytes
    is_dir: bool = False
    old_path: bytes | None = None
    sequence: int = 0
    time: int = 0
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    command: bytes | None = None
    lost: int | None = None


class Kind(NamedTuple):
    """What a watch is, beside its mask: those of AddWatch."""

    tree: bool = False
    exclude: tuple[bytes, ...] = ()
    ignore_self: bool = False


ORDINARY = Kind()


def kind_of(tree: bool, exclude: Iterable[str | bytes], ignore_self: bool) -> Kind:
    """Return the kind of a watch as a caller says it.

    Raises TypeError where exclude is one pattern and not several.
    """
    if isinstance(exclude, str | bytes):
        raise TypeError(f"exclude takes several patterns, as in exclude=[{exclude!r}]")
    return Kind(tree, tuple([os.fsencode(pattern) for pattern in exclude]), ignore_self)


@dataclass(slots=True)
class Watch:
    """A watch: the caller's descriptor and path, the mount's path, the mask, and its kind."""

    wd: int
    path: bytes
    inner_path: bytes
    mask: int
    kind: Kind


class _Shown(NamedTuple):
    """A watch as the caller knows it."""

    wd: int
    path: bytes


class WatchedPaths:
    """The watches of a device, by its descriptors.

    Where outlives_mount, watches are kept when the mount ends, for another one.
    """

    def __init__(self, *, outlives_mount: bool = False) -> None:
        self._watches: dict[int, Watch] = {}
        self._last = 0
        self._moved = False
        self._outlives_mount = outlives_mount
        self._unmounted: set[int] = set()

    def add(
        self,
        wd: int,
        path: bytes,
        inner_path: bytes = b"",
        mask: int = 0,
        kind: Kind = ORDINARY,
    ) -> int:
        """Say that the device's wd watches path; return the caller's.  The latest path counts."""
        known = self._watches.get(wd)
        if known is not None:
            shown = known.wd
            mask |= known.mask if mask & IN_MASK_ADD else 0
        else:
            shown = self._last + 1 if self._moved else wd
        self._last = max(self._last, shown)
        kept = mask & ~IN_MASK_CREATE | IN_MASK_ADD
        self._watches[wd] = Watch(shown, path, inner_path, kept, kind)
        return shown

    def device_wd(self, wd: int) -> int:
        """Return the device's descriptor for the caller's.

        Raises OSError (EINVAL).
        """
        if not self._moved:
            return wd
        for found, watch in list(self._watches.items()):
            if watch.wd == wd:
                return found
        raise OSError(errno.EINVAL, f"there is no watch {wd}")

    def watches(self) -> list[Watch]:
        """Return all watches, in the order in which they were made."""
        return list(self._watches.values())

    def moved(
        self, watched: Iterable[tuple[int, Watch]]
    ) -> tuple[WatchedPaths, list[InotifyEvent]]:
        """Return the same for another device, which watches what is given under these descriptors.

        The events tell it: events were lost, and watches are gone.
        """
        other = WatchedPaths(outlives_mount=self._outlives_mount)
        other._last = self._last
        other._moved = True
        for wd, watch in watched:
            other._watches.setdefault(wd, watch)  # two paths may name one object by now
        kept = {watch.wd for watch in other.watches()}
        return other, [InotifyEvent(-1, IN_Q_OVERFLOW, 0, None, b"")] + [
            InotifyEvent(watch.wd, IN_IGNORED, 0, None, watch.path)
            for watch in self.watches()
            if watch.wd not in kept
        ]

    def events(self, records: bytes) -> list[InotifyEvent]:
        """Return the events in records; watches that are gone are forgotten."""
        found, gone = self.converted(records)
        self.forget(gone)
        return found

    def forget(self, gone: set[int]) -> None:
        """Forget watches, by the device's descriptors."""
        for wd in gone:
            self._watches.pop(wd, None)

    def converted(self, records: bytes) -> tuple[list[InotifyEvent], set[int]]:
        """Return the events in records and what to forget when they were read.

        The same records may be converted again.
        """
        found = []
        gone: set[int] = set()
        for wd, mask, cookie, name in unpack(records):
            shown = self._shown(wd, mask, gone)
            if shown is not None:
                path = _joined(shown.path, name)
                found.append(InotifyEvent(shown.wd, mask, cookie, name, path))
        return found, gone

    def converted_details(
        self, events: Iterable[DetailedEvent]
    ) -> tuple[list[DetailedInotifyEvent], set[int]]:
        """Do as converted() with a detailed device's events."""
        found = []
        gone: set[int] = set()
        for event in events:
            shown = self._shown(event.wd, event.mask, gone)
            if shown is None:
                continue
            old = event.old_path
            found.append(
                DetailedInotifyEvent(
                    shown.wd,
                    event.mask,
                    event.cookie,
                    event.path,
                    _joined(shown.path, event.path),
                    event.is_dir,
                    None if old is None else _joined(shown.path, old),
                    event.sequence,
                    event.time,
                    event.pid,
                    event.uid,
                    event.gid,
                    event.command,
                    event.lost,
                )
            )
        return found, gone

    def _shown(self, wd: int, mask: int, gone: set[int]) -> _Shown | None:
        """Return what an event of a device's watch is shown as; None where it is not shown.

        gone are those that events before said to be gone.
        """
        if mask & IN_UNMOUNT and self._outlives_mount:
            self._unmounted.add(wd)
        if mask & IN_IGNORED and wd in self._unmounted:
            return None  # it will be made again
        watch = None if wd in gone else self._watches.get(wd)
        if mask & IN_IGNORED:
            gone.add(wd)
        return _Shown(wd, b"") if watch is None else _Shown(watch.wd, watch.path)


def without_details(event: InotifyEvent) -> DetailedInotifyEvent:
    """Return an event of our own making, which no device gave."""
    return DetailedInotifyEvent(*event, time=time.time_ns())


def _joined(path: bytes, name: bytes | None) -> bytes:
    return path if name is None else os.path.join(path, name.removesuffix(b"/"))
