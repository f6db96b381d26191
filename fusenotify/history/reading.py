# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a journal from a cursor on: what came below a path, and what is missing.

history.store has the entries; whoever reads calls next() as often as they like, in any thread.
"""

from __future__ import annotations

import msgspec

from fusenotify.bits import (
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
)
from fusenotify.history.cursors import Cursor, parse
from fusenotify.history.entries import Entry, Reason, gap
from fusenotify.history.store import Store

# What may be said of a directory above the one that is read of, because it changes what that is.
_NAMES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO


class Reading:
    """A reader's place in a store, and the path below which they read, from the tree's root.

    cursor is where to begin, as a client gave it.  Where that place cannot be, the first entry
    is a gap that says why, and the next is the oldest that is kept; behind a cursor that is
    newer than the journal, the next one that comes.

    Raises ValueError where the cursor is none.
    """

    def __init__(self, store: Store, cursor: str, path: bytes) -> None:
        self._store = store
        self._path = path.strip(b"/")
        journal, self._sequence = parse(cursor)
        self._missing: Reason | None = None
        if journal != store.id:
            self._missing = Reason.OTHER
        elif self._sequence > store.last:
            self._missing = Reason.FUTURE

    @property
    def cursor(self) -> Cursor:
        """The place behind what was returned."""
        return Cursor(self._store.id, self._sequence)

    def next(self) -> list[Entry] | None:
        """Return more entries, [] where those that were read are not below the path.

        None says that there is nothing more now.

        Raises OSError (EIO).
        """
        store = self._store
        reason = self._missing
        since = 0
        if reason is None:
            entries = store.read(self._sequence)
            if not entries:
                return None
            if entries[0].sequence == self._sequence + 1:
                self._sequence = entries[-1].sequence
                return [seen for entry in entries if (seen := seen_below(entry, self._path))]
            reason = Reason.EXPIRED
            since = store.time_before(self._sequence)
        self._missing = None
        self._sequence = store.last if reason is Reason.FUTURE else store.oldest - 1
        following = store.read(self._sequence)
        until = following[0].time if following else store.time_before(self._sequence)
        return [gap(self._sequence, since, until, reason)]


def seen_below(entry: Entry, directory: bytes) -> Entry | None:
    """Return what an entry is for somebody who reads below a directory, None where nothing.

    directory is a path from the tree's root, b"" for all of it.  Of a rename into or out of it
    that is one half, and it has no other name.
    """
    if not directory or entry.mask & IN_Q_OVERFLOW:
        return entry
    new = _concerns(entry, entry.path, directory)
    if entry.old_path is None:
        return entry if new else None
    old = _concerns(entry, entry.old_path, directory)
    if new and old:
        return entry
    if new:
        return half(entry, IN_MOVED_TO)
    return half(entry, IN_MOVED_FROM) if old else None


def half(rename: Entry, bit: int) -> Entry:
    """Return one half of a rename: bit is IN_MOVED_TO, or IN_MOVED_FROM with the old path."""
    path = rename.path if bit == IN_MOVED_TO else rename.old_path
    mask = bit | rename.mask & IN_ISDIR
    return msgspec.structs.replace(rename, mask=mask, path=path, old_path=None)


def _concerns(entry: Entry, path: bytes, directory: bytes) -> bool:
    """Return whether what happened to a path is of interest below a directory."""
    if path == directory or path.startswith(directory + b"/"):
        return True
    return bool(entry.mask & _NAMES) and (not path or directory.startswith(path + b"/"))
