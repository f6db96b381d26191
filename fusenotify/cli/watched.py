# SPDX-License-Identifier: GPL-2.0-or-later
"""Which path each watch of ``fusenotify wait`` stands for, through renames.

A record says only the watch and a name.  This table keeps the paths as a user
would type them now; cli.wait adds and removes the watches it names.

Invariant
    A directory's path ends in a slash, a file's does not.
"""

from __future__ import annotations


class WatchedPaths:
    """Paths by watch descriptor."""

    def __init__(self) -> None:
        self._paths: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def get(self, wd: int) -> bytes | None:
        """Return the path of a watch, or None for one that was removed."""
        return self._paths.get(wd)

    def set(self, wd: int, path: bytes) -> None:
        """Say that wd watches path."""
        self._paths[wd] = path

    def forget(self, wd: int) -> None:
        """Say that wd is gone."""
        self._paths.pop(wd, None)

    def below(self, directory: bytes) -> list[int]:
        """Return the watches on a directory (with its slash) and all below it."""
        return [wd for wd, path in self._paths.items() if path.startswith(directory)]

    def moved(self, old: bytes, new: bytes) -> None:
        """Say that a directory was renamed, and with it all below; both with a slash."""
        for wd in self.below(old):
            self._paths[wd] = new + self._paths[wd][len(old) :]
