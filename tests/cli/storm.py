# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories that are made, renamed, exchanged, moved out and in at random, and where they are.

What is called here and what the model says of it are the same step, so the
model knows the path of each file at the moment when it was made.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from fusenotify.fs.syscalls import renameat2

_EXCHANGE = 2  # Linux: RENAME_EXCHANGE
_NAMES = [b"a", b"b", b"c", b"d"]
_DEEPEST = 5


class Directory:
    """A directory that the storm made."""

    def __init__(self, above: Directory | None, name: bytes) -> None:
        self.above = above
        self.name = name
        self.below: dict[bytes, Directory] = {}
        self.has_files = False

    def __str__(self) -> str:
        return os.fsdecode(self.path)

    @property
    def path(self) -> bytes:
        return self.name if self.above is None else self.above.path + b"/" + self.name

    @property
    def depth(self) -> int:
        return 0 if self.above is None else 1 + self.above.depth

    @property
    def top(self) -> Directory:
        return self if self.above is None else self.above.top

    def all(self) -> Iterator[Directory]:
        yield self
        for directory in self.below.values():
            yield from directory.all()

    def place(self, above: Directory, name: bytes) -> None:
        self.above, self.name = above, name
        above.below[name] = self


class Storm:
    """Steps by seed in tree, which is watched, and outside, both in one mount.

    made has, for each file that was made in the tree, its name and the path
    that it had then.
    """

    def __init__(self, tree: Path, outside: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._tree = Directory(None, os.fsencode(tree))
        self._outside = Directory(None, os.fsencode(outside))
        self._files = 0
        self.made: dict[str, str] = {}

    def step(self) -> None:
        """Do something."""
        draw = self._random
        self._random.choice(
            [self._make, self._make, self._move, self._move, self._move, self._exchange]
            + [self._remove, self._file, self._file, self._cross]
        )()
        if draw.random() < 0.02:
            self._move_in_and_out()

    def directories(self) -> list[Directory]:
        """Return the directories of the tree."""
        return list(self._tree.all())

    def _any(self, top: Directory | None = None, proper: bool = False) -> Directory | None:
        tops = [top] if top else [self._tree, self._tree, self._tree, self._outside]
        found = list(self._random.choice(tops).all())[1 if proper else 0 :]
        return self._random.choice(found) if found else None

    def _make(self) -> None:
        above = self._any()
        name = self._random.choice(_NAMES)
        if above is not None and above.depth < _DEEPEST and name not in above.below:
            os.mkdir(above.path + b"/" + name)
            Directory(above, name).place(above, name)

    def _move(self) -> None:
        self._rename(self._any(proper=True), self._any())

    def _cross(self) -> None:
        tops = [self._tree, self._outside]
        self._random.shuffle(tops)
        self._rename(self._any(tops[0], proper=True), self._any(tops[1]))

    def _move_in_and_out(self) -> None:
        moving = self._any(self._tree, proper=True)
        if moving is not None:
            for top in (self._outside, self._tree, self._outside, self._tree):
                self._rename(moving, top)

    def _rename(self, moving: Directory | None, above: Directory | None) -> None:
        if moving is None or above is None or above in moving.all():
            return
        name = self._random.choice(_NAMES)
        over = above.below.get(name)
        if over is moving or (over is not None and (over.below or over.has_files)):
            return
        os.rename(moving.path, above.path + b"/" + name)
        assert moving.above is not None
        del moving.above.below[moving.name]
        moving.place(above, name)

    def _exchange(self) -> None:
        one, other = self._any(proper=True), self._any(proper=True)
        if one is None or other is None or one in other.all() or other in one.all():
            return
        renameat2(-1, one.path, -1, other.path, _EXCHANGE)
        (above, name), (other_above, other_name) = (one.above, one.name), (other.above, other.name)
        assert above is not None
        assert other_above is not None
        one.place(other_above, other_name)
        other.place(above, name)

    def _remove(self) -> None:
        directory = self._any(proper=True)
        if directory is not None and not directory.below and not directory.has_files:
            os.rmdir(directory.path)
            assert directory.above is not None
            del directory.above.below[directory.name]

    def _file(self) -> None:
        directory = self._any()
        if directory is not None:
            self.file_in(directory)

    def file_in(self, directory: Directory) -> str:
        """Make a file, which may go at once, and return its path."""
        self._files += 1
        name = f"file-{self._files}"
        path = directory.path + b"/" + name.encode()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        if directory.top is self._tree:
            self.made[name] = os.fsdecode(path)
        if self._random.random() < 0.7:  # the directory can be removed again
            os.unlink(path)
        else:
            directory.has_files = True
        return os.fsdecode(path)
