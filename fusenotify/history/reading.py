# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a journal from a cursor on: the changes below a path, and what is missing.

history.store has the entries.  A reader calls next() again and again, in any thread.
"""

from __future__ import annotations

import time

import msgspec

from fusenotify.bits import (
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
)
from fusenotify.history.cursors import BEFORE, Cursor, parse
from fusenotify.history.entries import Entry, Reason, gap
from fusenotify.history.store import Store

# The events of directories above the path that are returned, too, since they change what the path
# leads to.
_NAMES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO


class Reading:
    """A reader's place in a store, and the path below which it reads, from the tree's root.

    cursor is the place to begin, from a client.  If that is impossible, the first entry is a
    gap that says why.  The next one is then the oldest entry that is kept or, if the cursor is
    newer than the journal, the first one after what both have.

    Raises ValueError if the text is not a cursor, or the path has "..".
    """

    def __init__(self, store: Store, cursor: str, path: bytes) -> None:
        self._store = store
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        if b".." in names or b"\0" in path:
            raise ValueError("a path from the mount's root, without '..' and NUL, is needed")
        self._path = b"/".join(names)
        self._inside = self._path + b"/"
        place = parse(cursor)
        self._sequence = place.sequence
        self._missing: Reason | None = None
        if place.journal != store.id:
            self._missing = Reason.OTHER
        elif (place.run, place.sequence) == (BEFORE, 0):
            self._missing = Reason.EXPIRED
        elif (reached := store.reached(place)) != place.sequence:
            self._missing = Reason.FUTURE
            self._sequence = store.last if reached < 0 else reached

    @property
    def cursor(self) -> Cursor:
        """The place after the last entry that was read."""
        return self._store.cursor(self._sequence)

    def next(self) -> list[Entry] | None:
        """Return more entries; [] if none of those that were read are below the path.

        None means that there are no more now.

        Raises OSError (EIO).
        """
        store = self._store
        newest = store.last  # which is read first: what is written then is in the file
        sequence = self._sequence
        reason, self._missing = self._missing, None
        if reason is Reason.OTHER:
            sequence = -1
        entries = store.read(sequence)
        if reason is None:
            if not entries and sequence >= newest:
                return None
            if entries and (entries[0].sequence == sequence + 1 or _is_damaged(entries[0])):
                self._sequence = entries[-1].sequence
                return [seen for entry in entries if (seen := self._seen(entry))]
            reason = Reason.EXPIRED
        since = 0
        if reason is Reason.EXPIRED:
            since = store.time_before(sequence)
        if reason is not Reason.FUTURE:
            self._sequence = entries[0].sequence - 1 if entries else newest
        until = entries[0].time if entries else time.time_ns()
        if reason is Reason.EXPIRED and self._sequence == 0:
            until = store.begun
        return [gap(self._sequence, min(since, until), until, reason)]

    def _seen(self, entry: Entry) -> Entry | None:
        """Return an entry as it looks for a reader below the path; None if it is not to be seen.

        A rename into or out of the path becomes one of its halves, without the other path.
        """
        if not self._path or entry.mask & IN_Q_OVERFLOW:
            return entry
        new = self._concerns(entry, entry.path)
        if entry.old_path is None:
            return entry if new else None
        old = self._concerns(entry, entry.old_path)
        if new and old:
            return entry
        if new:
            return half(entry, IN_MOVED_TO)
        return half(entry, IN_MOVED_FROM) if old else None

    def _concerns(self, entry: Entry, path: bytes) -> bool:
        """Return whether an entry about a path belongs to what is read."""
        if path == self._path or path.startswith(self._inside):
            return True
        return bool(entry.mask & _NAMES) and (not path or self._inside.startswith(path + b"/"))


def _is_damaged(entry: Entry) -> bool:
    return entry.reason is Reason.DAMAGED


def half(rename: Entry, bit: int) -> Entry:
    """Return one half of a rename: bit is IN_MOVED_TO, or IN_MOVED_FROM with the old path."""
    path = rename.path if bit == IN_MOVED_TO else rename.old_path
    mask = bit | rename.mask & IN_ISDIR
    return msgspec.structs.replace(rename, mask=mask, path=path, old_path=None)
