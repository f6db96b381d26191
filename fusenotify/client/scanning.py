# SPDX-License-Identifier: GPL-2.0-or-later
"""Find changes of a time without a journal, as far as the tree itself shows them.

An object whose ctime is in that time was changed, created or moved then.  An object that the
journal knows (client.known_names) and that does not exist was removed.  A name that was created
and removed in that time is not found, and neither is the old name of a moved object that the
journal did not know.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from fusenotify.client.changes import Change, Kind
from fusenotify.protocol.past import PastEvent

# The clock of ctimes is updated at each tick of the kernel, so it may be late.  In ns.
_SLACK = 50_000_000


def scan(
    top: bytes, inner: bytes, gaps: Sequence[PastEvent], known: Mapping[bytes, bool]
) -> list[Change]:
    """Return the changes at and below a path in the times of gaps, sorted by path.

    top is the path for this process, and inner is the same path from the mount's root.  known
    maps the paths that should exist to whether they are directories.  Paths in known and in the
    result are from the mount's root.  Objects below an unreadable directory are left out.
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
    """Return the changes that events told, and those that a scan adds, sorted by path."""
    named = {change.path for change in told} | {change.old_path for change in told}
    new = [change for change in scanned if change.path not in named]
    return sorted([*told, *new], key=lambda change: change.path)


def _walk(top: bytes, root: bytes, unread: set[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the objects at and below a path: paths from the mount's root, and attributes.

    Directories that cannot be read are added to unread.
    """
    below = [(root, top)]
    while below:
        path, outer = below.pop()
        try:
            status = os.lstat(outer)
        except FileNotFoundError:
            continue  # removed since then: the journal has that
        yield path, status
        if not stat.S_ISDIR(status.st_mode):
            continue
        try:
            names = os.listdir(outer)
        except OSError:
            unread.add(path)
            continue
        below += [(path + b"/" + name if path else name, outer + b"/" + name) for name in names]
