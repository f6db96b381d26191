# SPDX-License-Identifier: GPL-2.0-or-later
"""Events and their record layout, the ``struct inotify_event`` of inotify(7).

Every layer imports this module; it imports nothing of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

# wd (signed), mask, cookie, length of the name field; native byte order.
HEADER = struct.Struct("=iIII")
# The most bytes of records that one read returns, and so the size of the longest record.
MOST_BYTES = 1024 * 1024
# The bytes of a read that a detailed event takes besides its paths: more than in any message.
DETAILED_SIZE = 192


class Event(NamedTuple):
    """One event as a device queues it.

    wd is the watch descriptor (-1 for IN_Q_OVERFLOW).  cookie pairs the two
    halves of a rename, and is 0 for other events.  name is the entry's name in the
    watched directory, or None if the event is about the watched object itself.
    For a tree watch it is the path from the watched directory; it ends in a slash
    if the event is about a directory below, reported by that directory itself.
    """

    wd: int
    mask: int
    cookie: int = 0
    name: bytes | None = None


def record_size(name: bytes | None) -> int:
    """Return the number of bytes of a record with this name.

    The name field holds the name and at least one NUL, rounded up to a
    multiple of the header's 16 bytes; without a name there is no field.
    Seed: ``kernel_event()``.
    """
    if name is None:
        return HEADER.size
    return HEADER.size + (len(name) + HEADER.size) // HEADER.size * HEADER.size


def detailed_size(path: bytes | None, old_path: bytes | None) -> int:
    """Return the number of bytes of a read that a detailed event with these paths takes."""
    return DETAILED_SIZE + len(path or b"") + len(old_path or b"")


def pack(event: tuple[int, int, int, bytes | None]) -> bytes:
    """Return the record of an event, as read(2) on an inotify descriptor returns it."""
    wd, mask, cookie, name = event
    if name is None:
        return HEADER.pack(wd, mask, cookie, 0)
    length = record_size(name) - HEADER.size
    return HEADER.pack(wd, mask, cookie, length) + name.ljust(length, b"\0")


def unpack(records: bytes) -> Iterator[Event]:
    """Yield the events in a sequence of whole records.

    Raises ValueError if it ends in the middle of a record.
    """
    offset, end = 0, len(records)
    while offset < end:
        if end - offset < HEADER.size:
            raise ValueError(f"{end - offset} bytes after the last whole record")
        wd, mask, cookie, length = HEADER.unpack_from(records, offset)
        offset += HEADER.size
        if end - offset < length:
            raise ValueError(f"a name of {length} bytes is cut to {end - offset}")
        name = records[offset : offset + length].split(b"\0", 1)[0] if length else None
        offset += length
        yield Event(wd, mask, cookie, name)
