# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed in a time in which nobody kept a journal, as far as the tree itself shows it.

What has its ctime in that time was changed, made or moved then.  What a journal knows
(client.known_names) and is not there was removed.  A name that was made and removed in that
time shows nowhere, nor does the old name of something that the journal had not heard of.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from fusenotify.client.changes import Change, Kind
from fusenotify.protocol.past import PastEvent

# The kernel takes a ctime from a clock that ticks, and so lags behind.  In ns.
_SLACK = 50_000_000


def scan(
    top: bytes, inner: bytes, gaps: Sequence[PastEvent], known: Mapping[bytes, bool]
) -> list[Change]:
    """Return what changed at and below a path in the times of gaps, in the order of paths.

    top is the path as this process reaches it, inner the same from the mount's root.  known are
    the names that should be there and whether they are directories.  Paths in known and in
    what is returned are from the mount's root.  What is below a directory that may not be read is
    left out.
    """
    root = inner.strip(b"/")
    times = [((gap.since or 0) - _SLACK, gap.time + _SLACK) for gap in gaps]
    found: list[Change] = []
    there: set[bytes] = set()
    unread: set[bytes] = set()
    for path, status in _walk(top, root, unread):
        there.add(path)
        if any(since <= status.st_ctime_ns <= until for since, until in times):
            found.append(Change(path, Kind.MODIFIED, stat.S_ISDIR(status.st_mode)))
    for path, is_dir in known.items():
        inside = not root or path == root or path.startswith(root + b"/")
        if inside and path not in there and path.rpartition(b"/")[0] not in unread:
            found.append(Change(path, Kind.DELETED, is_dir))
    return sorted(found, key=lambda change: change.path)


def merged(told: Sequence[Change], scanned: Sequence[Change]) -> list[Change]:
    """Return what events add up to, and what a scan adds to that, in the order of paths."""
    named = {change.path for change in told} | {change.old_path for change in told}
    new = [change for change in scanned if change.path not in named]
    return sorted([*told, *new], key=lambda change: change.path)


def _walk(top: bytes, root: bytes, unread: set[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield what is at and below a path, by paths from the mount's root, and its attributes.

    Directories that cannot be read are added to unread.
    """
    below = [(root, top)]
    while below:
        path, outer = below.pop()
        try:
            status = os.lstat(outer)
        except FileNotFoundError:
            continue  # removed since then, which the journal tells
        yield path, status
        if not stat.S_ISDIR(status.st_mode):
            continue
        try:
            names = os.listdir(outer)
        except OSError:
            unread.add(path)
            continue
        below += [(path + b"/" + name if path else name, outer + b"/" + name) for name in names]
