# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions to a journal's store: the place of a time, and which directories were replaced.

The server asks them in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusenotify.history.cursors import BEFORE, Cursor
from fusenotify.history.entries import Number
from fusenotify.history.store import Store


def place_at(store: Store, time: int) -> Cursor:
    """Return the place before the first entry that is not older than a time.

    If the journal does not know everything since then, it is a place before the journal.

    Raises OSError (EIO).
    """
    query = "SELECT last FROM batches WHERE time >= ? ORDER BY last LIMIT 1"
    row = store.ask(tuple[Number], query, time)
    begin = store.last + 1
    if row:
        # Within the batch: the place before it is that after the batch before.
        (begin,) = row
        query = "SELECT last FROM batches WHERE last < ? ORDER BY last DESC LIMIT 1"
        before = store.ask(tuple[Number], query, begin)
        read = store.read(before[0] if before else 0)
        newer = [entry.sequence for entry in read if entry.time >= time]
        begin = newer[0] if newer else begin
    removed = begin == store.oldest > store.first
    if removed or time < store.begun:
        return Cursor(store.id, BEFORE, 0)
    return store.cursor(begin - 1)


def replaced(store: Store, directories: Iterable[bytes]) -> dict[bytes, int]:
    """Return for directories up to which entry another one may have had the path.

    The directory itself or one above it was made, or moved there, with that entry; 0 if the
    journal knows of none.  Paths are from the tree's root.

    Raises OSError (EIO).
    """
    found: dict[bytes, int] = {}
    for directory in directories:
        above, newest = directory, 0
        while True:
            query = "SELECT sequence FROM directories WHERE path = ?"
            row = store.ask(tuple[Number], query, above)
            newest = max(newest, row[0] if row else 0)
            if not above:
                break
            above = above.rpartition(b"/")[0]
        found[directory] = newest
    return found
