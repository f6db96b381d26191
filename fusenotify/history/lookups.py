# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions to a journal's store: the place of a time, and which directories were replaced.

The server asks them in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusenotify.history.cursors import BEFORE, Cursor
from fusenotify.history.store import Store


def place_at(store: Store, time: int) -> Cursor:
    """Return the place before the first entry that is not older than a time.

    If the journal does not know everything since then, it is a place before the journal.

    Raises OSError (EIO).
    """
    row = store.ask("SELECT last FROM batches WHERE time >= ? ORDER BY last LIMIT 1", time)
    begin = store.last + 1
    if row:
        # Within the batch: the place before it is that after the batch before.
        (begin,) = row
        (before,) = store.ask("SELECT max(last) FROM batches WHERE last < ?", begin)
        newer = [entry.sequence for entry in store.read(before or 0) if entry.time >= time]
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
            row = store.ask("SELECT sequence FROM directories WHERE path = ?", above)
            newest = max(newest, row[0] if row else 0)
            if not above:
                break
            above = above.rpartition(b"/")[0]
        found[directory] = newest
    return found
