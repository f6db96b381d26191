# SPDX-License-Identifier: GPL-2.0-or-later
"""Roughly what is there at a point of a program, so that most calls find something.

Who draws a program (programs.drawn) says what a step will do if it succeeds,
and asks for paths and slots.  Being wrong costs nothing: the call fails then,
in both worlds.
"""

from __future__ import annotations

from random import Random

FILE, DIRECTORY, SYMLINK, FIFO = "file", "directory", "symlink", "fifo"
_ALL = (FILE, DIRECTORY, SYMLINK, FIFO)

# Few names, so that calls meet.  Some are as long as records' sizes change,
# some too long, some no text.
_NAMES = ("a", "b", "c", "d", "n" * 15, "n" * 16, "n" * 31, "\udcff")
_ODD_NAMES = ("n" * 255, "n" * 256, ".", "a/", "c/.", "c/..")
_MAX_DEPTH = 3
_SLOTS = 4


class Sketch:
    """Paths by kind, and the slots that are filled, by process."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._kinds = {".": DIRECTORY}
        self._slots: dict[int, set[int]] = {0: set(), 1: set()}

    # What a step may be about.

    def new(self) -> str:
        """Return a path that may or may not be there."""
        directory = self._existing(DIRECTORY)
        if directory.count("/") >= _MAX_DEPTH - 1:
            directory = "."
        odd = self._random.random() < 0.04
        return _join(directory, self._random.choice(_ODD_NAMES if odd else _NAMES))

    def path(self, *kinds: str) -> str:
        """Return a path, mostly of something there of one of these kinds."""
        draw = self._random.random()
        if draw < 0.85:
            return self._existing(*kinds)
        return self._existing(*_ALL) if draw < 0.95 else self.new()

    def kind(self, path: str) -> str:
        return self._kinds.get(path, FILE)

    def slot(self, by: int) -> int:
        """Return a slot of a process, one that is filled where there is one."""
        filled = sorted(self._slots[by])
        return self._random.choice(filled) if filled else 0

    def any_slot(self) -> int:
        return self._random.randrange(_SLOTS)

    def has_open(self, by: int) -> bool:
        return bool(self._slots[by])

    # What steps do.

    def made(self, path: str, kind: str) -> None:
        self._kinds.setdefault(path, kind)

    def removed(self, path: str) -> None:
        if path != ".":
            self._kinds.pop(path, None)

    def renamed(self, path: str, target: str) -> None:
        self._kinds.pop(target, None)
        for name, kind in list(self._kinds.items()):
            if name == path or name.startswith(f"{path}/"):
                del self._kinds[name]
                self._kinds[target + name.removeprefix(path)] = kind
        self._kinds["."] = DIRECTORY

    def filled(self, by: int, slot: int) -> None:
        self._slots[by].add(slot)

    def emptied(self, by: int, slot: int) -> None:
        self._slots[by].discard(slot)

    def _existing(self, *kinds: str) -> str:
        found = [path for path, kind in self._kinds.items() if kind in kinds]
        return self._random.choice(found) if found else self.new()


def _join(directory: str, name: str) -> str:
    return name if directory == "." else f"{directory}/{name}"
