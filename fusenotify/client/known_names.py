# SPDX-License-Identifier: GPL-2.0-or-later
"""Which names are there, as far as a journal has heard of them.

For a time in which changes are missing: what should be there by all that was told, and is not,
was removed in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusenotify.bits import IN_DELETE, IN_ISDIR, IN_MOVED_FROM, IN_MOVED_TO, IN_Q_OVERFLOW
from fusenotify.protocol.past import PastEvent


def known_names(events: Iterable[PastEvent]) -> dict[bytes, bool]:
    """Return the paths that are there, by events in order, and which are directories."""
    there: dict[bytes, bool] = {}
    exchanged: tuple[bytes, bytes] | None = None
    for event in events:
        if event.mask & IN_Q_OVERFLOW:
            continue
        is_dir = bool(event.mask & IN_ISDIR)
        if event.mask & IN_DELETE:
            there.pop(event.path, None)  # nothing is below a directory that can be removed
        elif event.mask & IN_MOVED_FROM:
            _take(there, event.path)
            if event.exchanged:
                there[event.path] = is_dir  # something from outside has the name
        elif event.mask & IN_MOVED_TO and event.old_path is not None:
            pair = event.old_path, event.path
            if event.exchanged and exchanged == pair[::-1]:
                exchanged = None  # the first event of the two said it
                continue
            exchanged = pair if event.exchanged else None
            moved = _take(there, event.old_path)
            there |= _at(event.old_path, _take(there, event.path)) if event.exchanged else {}
            there |= _at(event.path, moved)
            there[event.path] = is_dir
        else:
            there[event.path] = is_dir
    there.pop(b"", None)
    return there


def _take(there: dict[bytes, bool], path: bytes) -> dict[bytes, bool]:
    """Take a path and all below it out, and return them by their paths from there."""
    is_dir = there.pop(path, None)
    taken = {} if is_dir is None else {b"": is_dir}
    if is_dir is not False:
        below = [other for other in there if other.startswith(path + b"/")]
        taken |= {other[len(path) :]: there.pop(other) for other in below}
    return taken


def _at(path: bytes, taken: dict[bytes, bool]) -> dict[bytes, bool]:
    """Return what was taken, by its paths at another place."""
    return {path + rest: is_dir for rest, is_dir in taken.items()}
