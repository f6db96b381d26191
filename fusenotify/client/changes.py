# SPDX-License-Identifier: GPL-2.0-or-later
"""Each path once, with what became of it: events of the journal, summed up.

fusenotify.client.Client.since() gives the events.

Invariants
    _now has the names that were touched and are there, each with its origin: the name that
        its object had at the beginning, None where it is new or came in from outside.
    _left has the names from which an object that was there at the beginning went away.
    What is not in _now below a directory that is there has moved with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fusenotify.bits import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
)
from fusenotify.protocol.past import PastEvent


class Kind(StrEnum):
    """What became of a path."""

    CREATED = "created"  # it is new, or came in from outside
    MODIFIED = "modified"  # its data may be other, or something else has its name
    ATTRIBUTES = "attributes"  # only its attributes are other
    MOVED = "moved"  # it was somewhere else
    DELETED = "deleted"  # it is gone, or outside


@dataclass(frozen=True, slots=True)
class Change:
    """A path and what became of it.

    path is that of PastEvent: where something is now, or would be if it was not gone.  Of
    something that was moved, old_path is where it was at the beginning, and modified says
    whether its data may be other, too.  What is below a moved directory moved with it,
    unless it is named itself.
    """

    path: bytes
    kind: Kind
    is_dir: bool
    old_path: bytes | None = None
    modified: bool = False


@dataclass(slots=True)
class _Node:
    """Something that is there."""

    origin: bytes | None
    is_dir: bool
    modified: bool = False
    attributes: bool = False


class Changes:
    """What events add up to.

    gaps are the events among them that say that others may be missing.
    """

    def __init__(self) -> None:
        self.gaps: list[PastEvent] = []
        self._now: dict[bytes, _Node] = {}
        self._left: dict[bytes, bool] = {}  # and whether it was a directory
        self._exchanged: tuple[bytes, bytes] | None = None

    def add(self, events: Iterable[PastEvent]) -> None:
        """Count further events, in the order in which they happened."""
        for event in events:
            mask, path, old_path = event.mask, event.path, event.old_path
            is_dir = bool(mask & IN_ISDIR)
            if mask & IN_Q_OVERFLOW:
                self.gaps.append(event)
            elif old_path is not None and event.exchanged:
                self._exchange(old_path, path, is_dir)
            elif old_path is not None:
                self._move(old_path, path, is_dir, event.replaced)
            elif event.exchanged or event.replaced:  # with, or by, something from outside
                self._take(path, is_dir)
                self._now[path] = _Node(None, is_dir)
            elif mask & IN_DELETE:
                self._take(path, is_dir, alone=True)
            elif mask & IN_MOVED_FROM:
                self._take(path, is_dir)
            elif mask & (IN_CREATE | IN_MOVED_TO):
                self._now[path] = _Node(None, is_dir)
            else:
                node = self._now.get(path) or _Node(self._origin(path), is_dir)
                self._now[path] = node
                if mask & (IN_MODIFY | IN_CLOSE_WRITE):
                    node.modified = True
                else:
                    node.attributes = True

    def all(self) -> list[Change]:
        """Return what changed, in the order of the paths."""
        places = {node.origin: path for path, node in self._now.items()}
        gone = {
            _moved_along(path, places): is_dir
            for path, is_dir in self._left.items()
            if path not in places
        }
        changes = [self._change(path, node, path in gone) for path, node in self._now.items()]
        changes += [
            Change(path, Kind.DELETED, is_dir)
            for path, is_dir in gone.items()
            if path not in self._now
        ]
        found = [change for change in changes if change is not None]
        return sorted(found, key=lambda change: change.path)

    def _change(self, path: bytes, node: _Node, replaces: bool) -> Change | None:
        if node.origin is None:
            return Change(path, Kind.MODIFIED if replaces else Kind.CREATED, node.is_dir)
        if node.origin != self._origin(path, itself=False):
            return Change(path, Kind.MOVED, node.is_dir, node.origin, node.modified)
        if node.modified:
            return Change(path, Kind.MODIFIED, node.is_dir)
        return Change(path, Kind.ATTRIBUTES, node.is_dir) if node.attributes else None

    def _origin(self, path: bytes, *, itself: bool = True) -> bytes | None:
        """Return where what is at a path was at the beginning, as the directories above say."""
        node = self._now.get(path) if itself else None
        above, rest = path, b""
        while node is None and b"/" in above:
            above, _, name = above.rpartition(b"/")
            rest = b"/" + name + rest
            node = self._now.get(above)
        if node is None:
            return path
        return None if node.origin is None else node.origin + rest

    def _take(
        self, path: bytes, is_dir: bool, *, alone: bool = False
    ) -> tuple[_Node, list[tuple[bytes, _Node]]]:
        """Take something away from a path, with what is below it, by the paths from it.

        alone says that nothing is below it, as in a directory that can be removed.
        """
        node = self._now.pop(path, None) or _Node(self._origin(path), is_dir)
        below: list[tuple[bytes, _Node]] = []
        if is_dir and not alone:
            start = path + b"/"
            inside = [other for other in self._now if other.startswith(start)]
            below = [(other[len(path) :], self._now.pop(other)) for other in inside]
        for taken in (node, *(other for _, other in below)):
            if taken.origin is not None:
                self._left[taken.origin] = taken.is_dir
        return node, below

    def _put(self, path: bytes, taken: tuple[_Node, list[tuple[bytes, _Node]]]) -> None:
        """Put what was taken at a path."""
        node, below = taken
        self._now[path] = node
        self._now.update((path + rest, other) for rest, other in below)

    def _move(self, old_path: bytes, path: bytes, is_dir: bool, replaced: bool) -> None:
        taken = self._take(old_path, is_dir)
        if replaced:
            self._take(path, is_dir)
        self._put(path, taken)

    def _exchange(self, one: bytes, other: bytes, one_is_dir: bool) -> None:
        """Exchange what is at two paths; the second of two events about it says nothing new."""
        if self._exchanged == (other, one):
            self._exchanged = None
            self._now[other].is_dir = one_is_dir
            return
        self._exchanged = one, other
        # Of what kind the other one is, is said by the second event.
        taken, second = self._take(one, one_is_dir), self._take(other, is_dir=True)
        self._put(other, taken)
        self._put(one, second)


def _moved_along(path: bytes, places: Mapping[bytes | None, bytes]) -> bytes:
    """Return which path something gone would have now, as the directories above it moved."""
    above, rest = path, b""
    while b"/" in above:
        above, _, name = above.rpartition(b"/")
        rest = b"/" + name + rest
        if above in places:
            return places[above] + rest
    return path
