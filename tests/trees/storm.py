# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that changes a directory tree at random; several do it at once.

    python -m tests.trees.storm DIRECTORY
    python -m tests.trees.storm DIRECTORY files

With "files" it makes, moves and removes no directories.  It takes lines from its standard
input, each a seed and a number of calls, and answers each with a line when the calls were
made.  A call that fails because another process was faster is none.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import shutil
import sys

_RENAME_EXCHANGE = 2
_NAMES = ["a", "b", "c", "d", "e"]
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


class Storm:
    """Random calls in the tree at top; only about files if that is asked for."""

    def __init__(self, top: str, chosen: random.Random, *, only_files: bool = False) -> None:
        self._top = top
        self._chosen = chosen
        self._only_files = only_files

    def call(self) -> None:
        """Change something.

        Raises OSError where that was not possible.
        """
        files = (
            (self._make_file, 8),
            (self._link, 3),
            (self._rename, 6),
            (self._unlink, 3),
        )
        directories = (
            (self._make_directories, 5),
            (self._exchange, 2),
            (self._remove_directory, 2),
            (self._remove_tree, 1),
        )
        kinds = files if self._only_files else files + directories
        (call,) = self._chosen.choices(*zip(*kinds, strict=True))
        call()

    def _make_directories(self) -> None:
        os.makedirs(self._path(6), exist_ok=True)

    def _make_file(self) -> None:
        with open(self._path(), "ab") as file:
            file.write(b"x")

    def _link(self) -> None:
        if self._chosen.random() < 0.3:
            os.symlink("a", self._path())
        else:
            os.link(self._path(), self._path(), follow_symlinks=False)

    def _rename(self) -> None:
        old, new = self._path(), self._path()
        if not (self._only_files and os.path.isdir(old)):
            os.rename(old, new)

    def _exchange(self) -> None:
        # Records of the exchange of two files look like a rename over the second and one back.  So
        # one of the two is always a directory, whatever others do meanwhile: nobody else uses its
        # name, and it is never used again.
        one = f"{os.path.dirname(self._path())}/{os.getpid()}.{next(_numbers)}"
        other = self._path()
        os.mkdir(one)
        try:
            if _libc.renameat2(
                *(-100, os.fsencode(one)), *(-100, os.fsencode(other)), _RENAME_EXCHANGE
            ):
                raise OSError(ctypes.get_errno(), "no exchange")
        finally:
            self._use_up(one)

    def _use_up(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.rename(path, self._path())
            return
        with contextlib.suppress(OSError):
            os.unlink(path)
        shutil.rmtree(path, ignore_errors=True)

    def _unlink(self) -> None:
        os.unlink(self._path())

    def _remove_directory(self) -> None:
        os.rmdir(self._path())

    def _remove_tree(self) -> None:
        shutil.rmtree(self._path(), ignore_errors=True)

    def _path(self, deepest: int = 4) -> str:
        names = self._chosen.choices(_NAMES, k=self._chosen.randint(1, deepest))
        return "/".join([self._top, *names])


def main() -> None:
    top, *kind = sys.argv[1:]
    for line in sys.stdin:
        seed, calls = map(int, line.split())
        storm = Storm(top, random.Random(seed), only_files=kind == ["files"])
        for _ in range(calls):
            with contextlib.suppress(OSError):
                storm.call()
        print("done", flush=True)


if __name__ == "__main__":
    main()
