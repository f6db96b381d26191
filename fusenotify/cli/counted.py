# SPDX-License-Identifier: GPL-2.0-or-later
"""The counts of ``fusenotify watch``: a row for each directory and file, a column for each event.

cli.watch passes events on.  inotifywatch has a row for each of its watches; here a
directory below a watched one gets its row when it is listed or has its first event,
and keeps the row when it is renamed.

Invariants
    Rows are in the order in which inotifywatch would have added its watches.
    A path has at most one row in _live; objects that were deleted or moved away
        have none there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fusenotify.bits import (
    IN_ACCESS,
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_OPEN,
    IN_UNMOUNT,
    names,
)
from fusenotify.cli.watching import Told

# In the order in which they are printed.
COLUMNS = (
    *(IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN),
    *(IN_MOVED_FROM, IN_MOVED_TO, IN_MOVE_SELF, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_UNMOUNT),
)
# Events that are always sent, and that count.
_UNASKED = IN_IGNORED | IN_UNMOUNT


@dataclass
class _Row:
    """The counts of a file or directory: of all events, and of each type."""

    path: bytes
    total: int = 0
    events: Counter[int] = field(default_factory=Counter)

    def count(self, sort_by: int) -> int:
        return self.events[sort_by] if sort_by else self.total


class Counted:
    """Counts of the requested events, and of those that end a watch.

    With recursive, directories below have rows of their own: those that were added,
    those whose creation inotifywatch would notice, and all in which events happen.
    """

    def __init__(self, asked: int, *, recursive: bool) -> None:
        self._asked = asked
        self._recursive = recursive
        self._rows: list[_Row] = []
        self._live: dict[bytes, _Row] = {}
        self._from: tuple[int, bytes] | None = None

    def add(self, path: bytes) -> None:
        """Add a row for a watched object; path is the one that its events will have."""
        self._row(path)

    def take(self, told: Told, *, counts: bool = True) -> None:
        """Count an event; if it does not count, only follow the changes of names."""
        mask = told.event.mask
        if not told.directory:
            return  # the event belongs to no watch
        if counts and mask & (self._asked | _UNASKED):
            row = self._row(told.directory)
            row.total += 1
            row.events.update(event for event in COLUMNS if mask & event)
        if self._recursive:
            self._heed(told, counts)

    def table(self, sort_by: int, *, ascending: bool, zero: bool) -> bytes:
        """Return the table to print, or b"" if all counts are 0.

        sort_by is an event or 0 for the total.  zero says whether to print rows and columns
        of zeros.
        """
        if not any(row.total for row in self._rows):
            return b""
        columns = [
            event
            for event in COLUMNS
            if event & self._asked and (zero or any(row.events[event] for row in self._rows))
        ]
        words = ["total", *(names(event)[0].lower() for event in columns)]
        lines = [b"".join(f"{word}  ".encode() for word in words) + b"filename\n"]
        sign = 1 if ascending else -1
        for row in sorted(self._rows, key=lambda row: sign * row.count(sort_by)):
            if zero or row.total:
                counts = [row.total, *(row.events[event] for event in columns)]
                for word, count in zip(words, counts, strict=True):
                    lines.append(f"{count:<{len(word)}}  ".encode())
                lines.append(row.path + b"\n")
        return b"".join(lines)

    def _row(self, path: bytes) -> _Row:
        row = self._live.get(path)
        if row is None:
            row = self._live[path] = _Row(path)
            self._rows.append(row)
        return row

    def _heed(self, told: Told, counts: bool) -> None:
        """Follow a directory that is created, renamed or removed."""
        mask, cookie = told.event.mask, told.event.cookie
        if mask & IN_DELETE_SELF and told.event.name is not None and not told.name:
            row = self._live.pop(told.directory, None)
            if row is not None and counts:
                row.total += 1  # for IN_IGNORED, which a directory below does not have here
        if not (mask & IN_ISDIR and told.name):
            return
        path = told.path + b"/"
        if mask & IN_MOVED_FROM:
            self._from = cookie, path
        elif mask & IN_MOVED_TO and self._from is not None and self._from[0] == cookie:
            self._rename(self._from[1], path)
            self._from = None
        elif counts and mask & self._asked & (IN_CREATE | IN_MOVED_TO):
            self._row(path)

    def _rename(self, old: bytes, new: bytes) -> None:
        """Change the paths of a directory and everything below it."""
        for path in [path for path in self._live if path.startswith(old)]:
            row = self._live.pop(path)
            row.path = new + path[len(old) :]
            self._live[row.path] = row
