# SPDX-License-Identifier: GPL-2.0-or-later
"""Events with paths, and which path each watch stands for.

Both kinds of Inotify use it; it does no I/O.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from fusenotify.events import unpack
from fusenotify.masks import IN_IGNORED


class InotifyEvent(NamedTuple):
    """One event.

    wd, mask, cookie and name (bytes, None where it is about the watched
    object itself) are those of inotify(7).  path is that of the object: the
    watched path, as it was given, and the name; b"" for IN_Q_OVERFLOW.
    """

    wd: int
    mask: int
    cookie: int
    name: bytes | None
    path: bytes


class WatchedPaths:
    """The paths that were given, by watch descriptor."""

    def __init__(self) -> None:
        self._paths: dict[int, bytes] = {}

    def add(self, wd: int, path: bytes) -> None:
        """Say that wd watches path; the latest path counts."""
        self._paths[wd] = path

    def events(self, records: bytes) -> list[InotifyEvent]:
        """Return the events in records; paths of watches that are gone are forgotten."""
        found = []
        for wd, mask, cookie, name in unpack(records):
            path = self._paths.get(wd, b"")
            if mask & IN_IGNORED:
                self._paths.pop(wd, None)
            found.append(
                InotifyEvent(
                    wd, mask, cookie, name, path if name is None else os.path.join(path, name)
                )
            )
        return found
