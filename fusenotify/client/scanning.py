# SPDX-License-Identifier: GPL-2.0-or-later
"""Find changes of a time without a journal, as far as the tree itself shows them.

An object whose ctime is in that time was changed, created or moved then.  An object that the
journal knows (client.known_names) and that does not exist was removed.  A name that was created
and removed in that time is not found, and neither is the old name of a moved object that the
journal did not know.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from fusenotify.client.changes import Change, Kind
from fusenotify.protocol.past import PastEvent

# The clock of ctimes is updated at each tick of the kernel, so it may be late.  In ns.
_SLACK = 50_000_000
# How many bytes of a path the kernel takes at once, with some to spare.
_MOST_AT_ONCE = 4000


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
        if inside and path not in there and not _is_below(path, unread):
            found.append(Change(path, Kind.DELETED, is_dir))
    return sorted(found, key=lambda change: change.path)


def merged(told: Sequence[Change], scanned: Sequence[Change]) -> list[Change]:
    """Return the changes that events told, corrected by those of a scan, sorted by path."""
    found = {change.path: change for change in told}
    for change in scanned:
        before = found.get(change.path)
        if before is None:
            found[change.path] = change
        elif change.kind is Kind.DELETED:
            del found[change.path]
            if before.old_path is not None:
                name = found.get(before.old_path)
                kind = Kind.DELETED if name is None else Kind.MODIFIED
                is_dir = before.is_dir if name is None else name.is_dir
                found[before.old_path] = Change(before.old_path, kind, is_dir)
            elif before.kind is not Kind.CREATED:
                found[change.path] = change
        elif before.kind is Kind.MOVED:
            found[change.path] = replace(before, modified=True)
        elif before.kind is not Kind.CREATED:
            found[change.path] = change
    return sorted(found.values(), key=lambda change: change.path)


def _walk(top: bytes, root: bytes, unread: set[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the objects at and below a path: paths from the mount's root, and attributes.

    Directories that cannot be read or searched are added to unread.  Paths may be longer than the
    kernel takes.
    """
    try:
        status = os.lstat(top)
    except FileNotFoundError:
        return
    yield root, status
    below = [b""] if stat.S_ISDIR(status.st_mode) else []
    start = root + b"/" if root else b""
    while below:
        rest = below.pop()
        try:
            with _opened(top, rest) as directory:
                for name in map(os.fsencode, os.listdir(directory)):
                    path = rest + b"/" + name if rest else name
                    try:
                        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # removed since then: the journal has that
                    yield start + path, status
                    if stat.S_ISDIR(status.st_mode):
                        below.append(path)
        except FileNotFoundError:
            continue
        except OSError:
            unread.add((start + rest).rstrip(b"/"))


@contextlib.contextmanager
def _opened(top: bytes, rest: bytes) -> Iterator[int]:
    """Return a context manager that yields a descriptor of the directory at rest below top."""
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while rest:
            end = len(rest) if len(rest) < _MOST_AT_ONCE else rest.rindex(b"/", 0, _MOST_AT_ONCE)
            flags = os.O_RDONLY if end == len(rest) else os.O_PATH
            below = os.open(rest[:end], flags | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor, rest = below, rest[end + 1 :]
        yield descriptor
    finally:
        os.close(descriptor)


def _is_below(path: bytes, directories: Container[bytes]) -> bool:
    """Return whether one of the directories is above a path."""
    while path:
        path = path.rpartition(b"/")[0]
        if path in directories:
            return True
    return False
