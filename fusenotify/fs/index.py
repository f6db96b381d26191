# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of known objects: by number, and by st_dev with st_ino.

fs.inodes keeps its table here.  The number is what programs see as st_ino, and
the kernel's name for an object, so no two known objects may share one.  An
object of SOURCE's own filesystem has its own st_ino, which is below OTHERS on
all disks.  In other filesystems below SOURCE, the number is
OTHERS + (place << PLACE_BITS) + st_ino, where place counts the filesystems in
the order in which they were seen; so it stays the same when an object is
forgotten and looked up again.  If that does not fit, or another object still
has the number, the object gets a number that was never used.

Invariant
    Each object is found by its number, and by st_dev and st_ino the object that
        has them now, or had them when it was last seen.
"""

from __future__ import annotations

import itertools
from typing import Generic, Protocol, TypeVar

ROOT_NUMBER = 1
OTHERS = 1 << 63
PLACE_BITS = 48
# The place that no filesystem gets: numbers that were never used begin there.
LAST_PLACE = (1 << 63 - PLACE_BITS) - 1
# An st_ino that no object has.
_NOBODYS = -1


class Numbered(Protocol):
    """An object with its number, and its st_dev and st_ino in SOURCE."""

    number: int
    device: int
    ino: int


_T = TypeVar("_T", bound=Numbered)


class Index(Generic[_T]):
    """The known objects by number, in the order in which they became known.

    device is SOURCE's st_dev.
    """

    def __init__(self, device: int) -> None:
        self.by_number: dict[int, _T] = {}
        self._device = device
        # Objects whose number is not their st_ino, by st_dev and st_ino.
        self._others: dict[int, dict[int, _T]] = {}
        self._places: dict[int, int] = {}
        self._never_used = itertools.count(OTHERS + (LAST_PLACE << PLACE_BITS))

    def find(self, device: int, ino: int) -> _T | None:
        """Return the object that has this st_dev and st_ino now, or None."""
        if device == self._device:
            found = self.by_number.get(ino)
            if found is not None and found.ino == ino and found.device == device:
                return found
        others = self._others.get(device)
        return None if others is None else others.get(ino)

    def new_number(self, device: int, ino: int) -> int:
        """Return a number for a new object."""
        if device == self._device and ROOT_NUMBER < ino < OTHERS:
            number = ino
        else:
            place = self._places.setdefault(device, len(self._places))
            if place >= LAST_PLACE or ino >> PLACE_BITS:
                return next(self._never_used)
            number = OTHERS + (place << PLACE_BITS) + ino
        return next(self._never_used) if number in self.by_number else number

    def add(self, known: _T) -> None:
        """Add an object, which is found from now on."""
        self.by_number[known.number] = known
        self._found(known)

    def remove(self, known: _T) -> None:
        """Remove an object."""
        del self.by_number[known.number]
        self._lost(known)

    def moved(self, known: _T, device: int, ino: int) -> None:
        """Record that an object has another st_dev and st_ino now; its number stays."""
        self._lost(known)
        known.device, known.ino = device, ino
        self._found(known)

    def superseded(self, known: _T) -> None:
        """Record that an object is gone from SOURCE, and another one has its st_dev and st_ino."""
        self._lost(known)
        known.ino = _NOBODYS

    def _found(self, known: _T) -> None:
        if known.device != self._device or known.ino != known.number:
            self._others.setdefault(known.device, {})[known.ino] = known

    def _lost(self, known: _T) -> None:
        others = self._others.get(known.device)
        if others is not None and others.get(known.ino) is known:
            del others[known.ino]
            if not others:
                del self._others[known.device]
