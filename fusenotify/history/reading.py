# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a journal from a cursor on: the changes below a path, and what is missing.

history.store has the entries.  A reader calls next() again and again, in any thread.
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

# The events of directories above the path that are returned, too, since they change what the path
# leads to.
_NAMES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO


class Reading:
    """A reader's place in a store, and the path below which it reads, from the tree's root.

    cursor is the place to begin, from a client.  If that is impossible, the first entry is a
    gap that says why.  The next one is then the oldest entry that is kept, or the next new one
    if the cursor is newer than the journal.

    Raises ValueError if the text is not a cursor.
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
        """The place after the last entry that was read."""
        return Cursor(self._store.id, self._sequence)

    def next(self) -> list[Entry] | None:
        """Return more entries; [] if none of those that were read are below the path.

        None means that there are no more now.

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
    """Return an entry as it looks for a reader below a directory; None if it is not to be seen.

    directory is a path from the tree's root, b"" for the whole tree.  A rename into or out of
    the directory becomes one of its halves, without the other path.
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
    """Return whether an entry about a path belongs to what is read below a directory."""
    if path == directory or path.startswith(directory + b"/"):
        return True
    return bool(entry.mask & _NAMES) and (not path or directory.startswith(path + b"/"))
