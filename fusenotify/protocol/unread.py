# SPDX-License-Identifier: GPL-2.0-or-later
"""A device's records between the socket and the reader.

connection puts in what comes for a device, whoever asked for it, and reads
take from here; so a read that is given up loses nothing.

Invariants
    Records are taken whole, once, and in the order in which they came.
    What changes is one attribute, in one step: an exception from outside (a
        signal handler's) finds records either here or taken, never between.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import NamedTuple

from fusenotify.events import HEADER


class _Entry(NamedTuple):
    """Records that came together.  start is where they are among all that ever came, in bytes."""

    start: int
    ordinal: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class _State(NamedTuple):
    """position is that of the first byte not taken; taker took what is before it, from taken on."""

    entries: deque[_Entry]
    position: int
    taker: object
    taken: int


class Unread:
    """A device's records that came and were not taken, oldest first."""

    def __init__(self) -> None:
        self._state = _State(deque(), 0, None, 0)
        self._closed = False

    def __len__(self) -> int:
        entries, position, _, _ = self._state
        return entries[-1].end - position if entries else 0

    def close(self) -> None:
        """Forget all, and keep nothing any more."""
        self._closed = True
        self._state = _State(deque(), 0, None, 0)

    def put(self, records: bytes, ordinal: int) -> None:
        """Keep records behind those that are kept.

        Ordinals grow; what comes with one that was there already is the same
        again.
        """
        entries, position, _, _ = self._state
        if self._closed or not records or (entries and entries[-1].ordinal >= ordinal):
            return
        start = entries[-1].end if entries else position
        entries.append(_Entry(start, ordinal, records))

    def take(self, size: int, taker: object = None) -> bytes:
        """Return as many whole records as fit size bytes.

        Raises OSError (EINVAL) where the first one does not fit.
        """
        entries, position, _, _ = self._state
        while entries and entries[0].end <= position:
            entries.popleft()
        pieces: list[bytes] = []
        end = position
        for entry in entries:
            fitting = _fitting(entry.data, end - entry.start, size - (end - position))
            pieces.append(fitting)
            end += len(fitting)
            if end < entry.end:
                break
        if entries and end == position:
            raise OSError(errno.EINVAL, f"the first record does not fit {size} bytes")
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._state = _State(entries, end, taker, position)
        return taken

    def put_back(self, taker: object, records: bytes) -> None:
        """Undo a take of taker's, who got these records where they got that far."""
        entries, position, last_taker, taken = self._state
        if last_taker is taker:
            self._state = _State(entries, taken, None, taken)
        elif records and not self._closed:  # another took meanwhile
            left = deque([_Entry(position - len(records), 0, records)])
            for start, ordinal, data in entries:
                rest = data[max(0, position - start) :]
                if rest:
                    left.append(_Entry(start + len(data) - len(rest), ordinal, rest))
            self._state = _State(left, position - len(records), None, 0)


def _fitting(data: bytes, start: int, size: int) -> bytes:
    """Return the records of data from start on that fit size bytes."""
    if len(data) - start <= size:
        return data[start:]
    end = start
    while True:
        following = end + HEADER.size + HEADER.unpack_from(data, end)[3]
        if following - start > size:
            return data[start:end]
        end = following
