# SPDX-License-Identifier: GPL-2.0-or-later
"""Values by path, in a tree of names: a directory moves with all that is below it, at once.

client.changes and client.known_names keep what events tell in such a tree.  Its cost for one event
grows with the depth of the path, not with how many names there are.

Invariant
    Each name has a value, or has something below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Branch(Generic[T]):
    """A name's value, and the names below it."""

    __slots__ = ("below", "value")

    def __init__(self, value: T | None = None) -> None:
        self.value = value
        self.below: dict[bytes, Branch[T]] | None = None

    def items(self, path: bytes = b"") -> Iterator[tuple[bytes, T]]:
        """Yield all values, with their paths if the branch was at path."""
        rest = [(path, self)]
        while rest:
            above, branch = rest.pop()
            if branch.value is not None:
                yield above, branch.value
            start = above + b"/" if above else b""
            rest += [(start + name, below) for name, below in (branch.below or {}).items()]


class NameTree(Generic[T]):
    """Values by path; no value is None.  Paths have no slash at either end, the root's is empty."""

    def __init__(self) -> None:
        self._root: Branch[T] = Branch()

    def get(self, path: bytes) -> T | None:
        """Return the value at a path, or None."""
        way = self._way(path)
        return None if way is None else way[-1].value

    def nearest_above(self, path: bytes) -> tuple[T, bytes] | None:
        """Return the value of the lowest directory above that has one, and the path from there.

        That path begins with a slash.  The root is not looked at.
        """
        names = path.split(b"/")
        branch, found, depth = self._root, None, 0
        for number, name in enumerate(names[:-1], 1):
            below = (branch.below or {}).get(name)
            if below is None:
                break
            branch = below
            if branch.value is not None:
                found, depth = branch.value, number
        return None if found is None else (found, b"/" + b"/".join(names[depth:]))

    def set(self, path: bytes, value: T) -> None:
        """Set the value at a path."""
        self._made(path).value = value

    def take(self, path: bytes, *, alone: bool = False) -> Branch[T]:
        """Take away what is at a path, and what is below it; with alone, leave what is below it."""
        way = self._way(path)
        if way is None:
            return Branch()
        taken = way[-1]
        if alone and taken.below:
            value, taken.value = taken.value, None
            return Branch(value)
        for name, above in zip(reversed(_names(path)), reversed(way[:-1]), strict=True):
            assert above.below is not None, "the way leads through it"
            del above.below[name]
            if above.below or above.value is not None:
                break
        return taken

    def put(self, path: bytes, branch: Branch[T]) -> None:
        """Put a branch at a path, in place of what is there."""
        place = self._made(path)
        place.value, place.below = branch.value, branch.below

    def items(self) -> Iterator[tuple[bytes, T]]:
        """Yield all paths and their values."""
        return self._root.items()

    def _way(self, path: bytes) -> list[Branch[T]] | None:
        """Return the branches from the root to a path, or None if there is none."""
        way = [self._root]
        for name in _names(path):
            below = (way[-1].below or {}).get(name)
            if below is None:
                return None
            way.append(below)
        return way

    def _made(self, path: bytes) -> Branch[T]:
        """Return the branch at a path, which is made if it is missing."""
        branch = self._root
        for name in _names(path):
            if branch.below is None:
                branch.below = {}
            branch = branch.below.setdefault(name, Branch())
        return branch


def _names(path: bytes) -> list[bytes]:
    return path.split(b"/") if path else []
