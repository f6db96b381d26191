# SPDX-License-Identifier: GPL-2.0-or-later
"""The path and kind of each watch, and the conversion of records to events with paths.

client.watching uses it; it does no I/O.

Invariant
    A watch keeps the descriptor under which it was made, even on the other
        device after a reconnection; no descriptor is used for two watches.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from fusenotify.bits import IN_IGNORED, IN_MASK_ADD, IN_MASK_CREATE, IN_UNMOUNT
from fusenotify.client.common import check_flags
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent
from fusenotify.events import unpack
from fusenotify.masks import MASKS, Mask
from fusenotify.protocol.details import DetailedEvent

# Those of os.fsdecode(), which looks them up at each call.
_ENCODING = sys.getfilesystemencoding()
_ERRORS = sys.getfilesystemencodeerrors()


class Kind(NamedTuple):
    """The properties of a watch other than its mask; the fields are those of AddWatch."""

    tree: bool = False
    exclude: tuple[bytes, ...] = ()
    ignore_self: bool = False


ORDINARY = Kind()


def kind_of(tree: bool, exclude: Iterable[str | bytes], ignore_self: bool) -> Kind:
    """Return the kind of a watch from a caller's parameters.

    Raises TypeError for a parameter of another type, and if exclude is a single pattern.
    """
    check_flags(tree=tree, ignore_self=ignore_self)
    if isinstance(exclude, str | bytes):
        raise TypeError(f"exclude takes several patterns, as in exclude=[{exclude!r}]")
    return Kind(tree, tuple([os.fsencode(pattern) for pattern in exclude]), ignore_self)


class PathText(str):
    """Text that also equals the bytes it was decoded from.

    The name and paths of an event used to be bytes always; programs that compare them with
    bytes still work.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, os.fsdecode(other) if isinstance(other, bytes) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class Watch:
    """A watch: the caller's descriptor and path, the mount's path, the mask, and its kind."""

    __slots__ = ("_is_text", "_prefix", "_slash", "inner_path", "kind", "mask", "path", "wd")

    def __init__(
        self,
        wd: int,
        path: str | bytes,
        inner_path: bytes = b"",
        mask: int = 0,
        kind: Kind = ORDINARY,
    ) -> None:
        self.wd = wd
        self.path: Any = PathText(path) if isinstance(path, str) else path
        self.inner_path = inner_path
        self.mask = mask
        self.kind = kind
        self._is_text = isinstance(path, str)
        self._prefix: Any = os.path.join(os.fsencode(path), b"") if path else b""
        self._slash: Any = b"/"
        if self._is_text:
            self._prefix, self._slash = os.fsdecode(self._prefix), "/"

    def spelled(self, name: bytes | None) -> Any:
        """Return a device's name in the type of the caller's path: str or bytes; None for None."""
        if name is None or not self._is_text:
            return name
        return PathText(name.decode(_ENCODING, _ERRORS))

    def path_of(self, name: Any) -> Any:
        """Return the path of the object with that name, which spelled() returned."""
        if name is None:
            return self.path
        path = self._prefix + name.removesuffix(self._slash)
        return PathText(path) if self._is_text else path


class WatchedPaths:
    """The watches of a device, by the device's descriptors.

    With outlives_mount, watches are kept when the mount ends, for the next mount.
    """

    def __init__(self, *, outlives_mount: bool = False) -> None:
        self._watches: dict[int, Watch] = {}
        self._last = 0
        self._moved = False
        self._outlives_mount = outlives_mount
        self._unmounted: set[int] = set()
        self._nowhere: str | bytes | None = None

    def add(
        self,
        wd: int,
        path: str | bytes,
        inner_path: bytes = b"",
        mask: int = 0,
        kind: Kind = ORDINARY,
    ) -> int:
        """Store that the device's wd watches path, and return the caller's descriptor.

        If a wd is added again, the latest path counts.
        """
        if self._nowhere is None:
            self._nowhere = path[:0]
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

    def watch(self, wd: int) -> Watch | None:
        """Return the watch with the device's descriptor wd, or None."""
        return self._watches.get(wd)

    def device_wd(self, wd: int) -> int:
        """Return the device's descriptor for the caller's.

        Raises OSError (EINVAL) if there is no such watch.
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
    ) -> tuple[WatchedPaths, list[InotifyEvent[Any]]]:
        """Return the watches for another device, and the events that report the change.

        watched has the device's descriptor of each watch that was made again.
        The events are IN_Q_OVERFLOW, since events were lost, and IN_IGNORED for
        each watch that is gone.
        """
        other = WatchedPaths(outlives_mount=self._outlives_mount)
        other._last = self._last
        other._moved = True
        other._nowhere = self._nowhere
        for wd, watch in watched:
            other._watches.setdefault(wd, watch)  # two paths may lead to one object now
        kept = {watch.wd for watch in other.watches()}
        lost: InotifyEvent[Any] = InotifyEvent(
            -1, Mask.Q_OVERFLOW, 0, None, self._elsewhere(-1).path
        )
        return other, [lost] + [
            InotifyEvent(watch.wd, Mask.IGNORED, 0, None, watch.path)
            for watch in self.watches()
            if watch.wd not in kept
        ]

    def forget(self, gone: set[int]) -> None:
        """Forget watches, by the device's descriptors."""
        for wd in gone:
            self._watches.pop(wd, None)

    def converted(self, records: bytes) -> tuple[list[InotifyEvent[Any]], set[int]]:
        """Return the events in records, and the descriptors to forget() once they are read.

        Nothing is changed, so the same records may be converted again.
        """
        found: list[InotifyEvent[Any]] = []
        gone: set[int] = set()
        for wd, mask, cookie, raw in unpack(records):
            watch = self._watch(wd, mask, gone)
            if watch is not None:
                name = watch.spelled(raw)
                found.append(InotifyEvent(watch.wd, MASKS[mask], cookie, name, watch.path_of(name)))
        return found, gone

    def converted_details(
        self, events: Iterable[DetailedEvent]
    ) -> tuple[list[DetailedInotifyEvent[Any]], set[int]]:
        """Do what converted() does, for a detailed device's events."""
        found: list[DetailedInotifyEvent[Any]] = []
        gone: set[int] = set()
        for event in events:
            watch = self._watch(event.wd, event.mask, gone)
            if watch is None:
                continue
            name = watch.spelled(event.path)
            old = event.old_path
            found.append(
                DetailedInotifyEvent(
                    watch.wd,
                    MASKS[event.mask],
                    event.cookie,
                    name,
                    watch.path_of(name),
                    event.is_dir,
                    None if old is None else watch.path_of(watch.spelled(old)),
                    event.sequence,
                    event.time,
                    event.pid,
                    event.uid,
                    event.gid,
                    watch.spelled(event.command),
                    event.lost,
                    event.behind,
                )
            )
        return found, gone

    def _watch(self, wd: int, mask: int, gone: set[int]) -> Watch | None:
        """Return the watch that an event is about; None if the event is not to be shown.

        gone has the descriptors of which earlier events were IN_IGNORED; an
        IN_IGNORED adds its own.
        """
        if mask & IN_UNMOUNT and self._outlives_mount:
            self._unmounted.add(wd)
        if mask & IN_IGNORED and wd in self._unmounted:
            return None  # it will be made again
        watch = None if wd in gone else self._watches.get(wd)
        if mask & IN_IGNORED:
            gone.add(wd)
        return self._elsewhere(wd) if watch is None else watch

    def _elsewhere(self, wd: int) -> Watch:
        """Return a watch with an empty path, for an event of no known watch (IN_Q_OVERFLOW)."""
        return Watch(wd, "" if self._nowhere is None else self._nowhere)


def without_details(event: InotifyEvent[Any]) -> DetailedInotifyEvent[Any]:
    """Return a detailed event for one that was made here, not read from a device."""
    return DetailedInotifyEvent(*event, time=time.time_ns())
