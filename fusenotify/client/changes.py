# SPDX-License-Identifier: GPL-2.0-or-later
"""Sum up events of the journal: each path once, with what became of it.

fusenotify.client.Client.since() yields the events.

Invariants
    _now has the paths that were touched and exist, each with its origin: the path that its
        object had at the beginning, or None if the object is new or came from outside.
    _left has the paths that objects had at the beginning which are gone now.
    Below a directory in _now, objects that are not in _now themselves have moved with it.
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
from fusenotify.client.name_tree import Branch, NameTree
from fusenotify.protocol.past import PastEvent


class Kind(StrEnum):
    """What became of a path."""

    CREATED = "created"  # it is new, or came from outside
    MODIFIED = "modified"  # its data may differ, or another object has its path
    ATTRIBUTES = "attributes"  # only its attributes differ
    MOVED = "moved"  # it had another path
    DELETED = "deleted"  # it is gone, or was moved outside


@dataclass(frozen=True, slots=True)
class Change:
    """A path and what became of it.

    path is relative to the mount's root, as in PastEvent.  It is the path that an object has
    now, or would have if it were not gone.  For an object that was moved, old_path is its
    path at the beginning, and modified says whether its data may differ, too.  Objects below a
    moved directory moved with it, unless there is a Change about them.
    """

    path: bytes
    kind: Kind
    is_dir: bool
    old_path: bytes | None = None
    modified: bool = False


@dataclass(slots=True)
class _Node:
    """An object that exists."""

    origin: bytes | None
    is_dir: bool
    modified: bool = False
    attributes: bool = False


class Changes:
    """The sum of events.

    gaps are those events which say that others may be missing.
    """

    def __init__(self) -> None:
        self.gaps: list[PastEvent] = []
        self._now: NameTree[_Node] = NameTree()
        self._left: dict[bytes, bool] = {}  # the value: whether it was a directory
        self._exchanged: tuple[bytes, bytes] | None = None

    def add(self, events: Iterable[PastEvent]) -> None:
        """Add events, in the order in which they happened."""
        for event in events:
            mask, path, old_path = event.mask, event.path, event.old_path
            is_dir = bool(mask & IN_ISDIR)
            if mask & IN_Q_OVERFLOW:
                self.gaps.append(event)
            elif old_path is not None and event.exchanged:
                self._exchange(old_path, path, is_dir)
            elif old_path is not None:
                self._move(old_path, path, is_dir, event.replaced)
            elif event.exchanged or event.replaced:  # with, or by, an object from outside
                self._lose(self._take(path, is_dir))
                self._now.set(path, _Node(None, is_dir))
            elif mask & IN_DELETE:
                self._lose(self._take(path, is_dir, alone=True))
            elif mask & IN_MOVED_FROM:
                self._lose(self._take(path, is_dir))
            elif mask & (IN_CREATE | IN_MOVED_TO):
                self._now.set(path, _Node(None, is_dir))
            else:
                node = self._now.get(path)
                if node is None:
                    node = _Node(self._origin(path), is_dir)
                    self._now.set(path, node)
                if mask & (IN_MODIFY | IN_CLOSE_WRITE):
                    node.modified = True
                else:
                    node.attributes = True

    def all(self) -> list[Change]:
        """Return the changes, sorted by path."""
        now = dict(self._now.items())
        places = {node.origin: path for path, node in now.items()}
        gone = {
            _moved_along(path, places): is_dir
            for path, is_dir in self._left.items()
            if path not in places
        }
        changes = [self._change(path, node, path in gone) for path, node in now.items()]
        changes += [
            Change(path, Kind.DELETED, is_dir) for path, is_dir in gone.items() if path not in now
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
        if node is not None:
            return node.origin
        found = self._now.nearest_above(path)
        if found is None:
            return path
        above, rest = found
        return None if above.origin is None else above.origin + rest

    def _take(self, path: bytes, is_dir: bool, *, alone: bool = False) -> Branch[_Node]:
        """Take something away from a path, with what is below it.

        alone says that nothing is below it, as in a directory that can be removed.
        """
        origin = self._origin(path)
        taken = self._now.take(path, alone=alone or not is_dir)
        taken.value = taken.value or _Node(origin, is_dir)
        return taken

    def _lose(self, taken: Branch[_Node]) -> None:
        """Count what was taken as gone."""
        for _, node in taken.items():
            if node.origin is not None:
                self._left[node.origin] = node.is_dir

    def _move(self, old_path: bytes, path: bytes, is_dir: bool, replaced: bool) -> None:
        taken = self._take(old_path, is_dir)
        if replaced:
            self._lose(self._take(path, is_dir))
        self._now.put(path, taken)

    def _exchange(self, one: bytes, other: bytes, one_is_dir: bool) -> None:
        """Exchange what is at two paths; the second of two events about it says nothing new."""
        if self._exchanged == (other, one):
            self._exchanged = None
            node = self._now.get(other)
            if node is not None:
                node.is_dir = one_is_dir
            return
        self._exchanged = one, other
        # Of what kind the other one is, is said by the second event.
        taken, second = self._take(one, one_is_dir), self._take(other, is_dir=True)
        self._now.put(other, taken)
        self._now.put(one, second)


def _moved_along(path: bytes, places: Mapping[bytes | None, bytes]) -> bytes:
    """Return the path that a deleted object would have now that directories above it moved."""
    above, rest = path, b""
    while b"/" in above:
        above, _, name = above.rpartition(b"/")
        rest = b"/" + name + rest
        if above in places:
            return places[above] + rest
    return path
