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
            if mask & IN_UNMOUNT and self._outlives_mount:
                self._unmounted.add(wd)
            if mask & IN_IGNORED and wd in self._unmounted:
                continue  # it will be made again
            watch = None if wd in gone else self._watches.get(wd)
            shown, path = (wd, b"") if watch is None else (watch.wd, watch.path)
            if mask & IN_IGNORED:
                gone.add(wd)
            if name is not None:
                path = os.path.join(path, name.removesuffix(b"/"))
            found.append(InotifyEvent(shown, mask, cookie, name, path))
        return found, gone
