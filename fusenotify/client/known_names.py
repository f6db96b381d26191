# SPDX-License-Identifier: GPL-2.0-or-later
"""Which names are there, as far as a journal has heard of them.

For a time in which changes are missing: what should be there by all that was told, and is not,
was removed in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusenotify.bits import IN_DELETE, IN_ISDIR, IN_MOVED_FROM, IN_MOVED_TO, IN_Q_OVERFLOW
from fusenotify.client.name_tree import NameTree
from fusenotify.protocol.past import PastEvent


def known_names(events: Iterable[PastEvent]) -> dict[bytes, bool]:
    """Return the paths that are there, by events in order, and which are directories."""
    there: NameTree[bool] = NameTree()
    exchanged: tuple[bytes, bytes] | None = None
    for event in events:
        if event.mask & IN_Q_OVERFLOW:
            continue
        is_dir = bool(event.mask & IN_ISDIR)
        if event.mask & IN_DELETE:
            there.take(event.path, alone=True)  # nothing is below a directory that can be removed
        elif event.mask & IN_MOVED_FROM:
            there.take(event.path)
            if event.exchanged:
                there.set(event.path, is_dir)  # something from outside has the name
        elif event.mask & IN_MOVED_TO and event.old_path is not None:
            pair = event.old_path, event.path
            if event.exchanged and exchanged == pair[::-1]:
                exchanged = None  # the first event of the two said it
                continue
            exchanged = pair if event.exchanged else None
            moved = there.take(event.old_path)
            if event.exchanged:
                there.put(event.old_path, there.take(event.path))
            there.put(event.path, moved)
            there.set(event.path, is_dir)
        else:
            there.set(event.path, is_dir)
    return {path: is_dir for path, is_dir in there.items() if path}
