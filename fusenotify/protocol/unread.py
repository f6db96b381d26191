# SPDX-License-Identifier: GPL-2.0-or-later
"""A device's records, or its events where it is detailed, between the socket and the reader.

connection puts in what comes for a device, whoever asked for it, and reads
take from here; so a read that is given up loses nothing.

Invariants
    Records and events are taken whole, once, and in the order in which they came.
    What changes is one attribute, in one step: an exception from outside (a
        signal handler's) finds them either here or taken, never between.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sized
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from fusenotify.events import HEADER
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.messages import AnyAnswer, Events, Records

# What a device gives: a run of records (bytes), or a tuple of events.
Data = TypeVar("Data", bound=Sized)


class _Entry(NamedTuple, Generic[Data]):
    """What came together.  start is where it is among all that ever came, in bytes or events."""

    start: int
    ordinal: int
    data: Data

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class _State(NamedTuple, Generic[Data]):
    """position is that of the first not taken; taker took what is before it, from taken on."""

    entries: deque[_Entry[Data]]
    position: int
    taker: object
    taken: int


class Unread(ABC, Generic[Data]):
    """What came for a device and was not taken, oldest first.

    answer is what it comes in, nothing an empty run of it.
    """

    answer: type[Records] | type[Events]
    nothing: Data

    def __init__(self) -> None:
        self._state: _State[Data] = _State(deque(), 0, None, 0)
        self._closed = False

    def __bool__(self) -> bool:
        entries, position, _, _ = self._state
        return bool(entries) and entries[-1].end > position

    def size(self) -> int:
        """Return how many bytes a read could give."""
        entries, position, _, _ = self._state
        return sum(self._size(self._behind(data, position - start)) for start, _, data in entries)

    def close(self) -> None:
        """Forget all, and keep nothing any more."""
        self._closed = True
        self._state = _State(deque(), 0, None, 0)

    def holds(self, answer: AnyAnswer) -> bool:
        """Return whether an answer gives something."""
        return bool(self._given(answer))

    def put(self, answer: AnyAnswer, ordinal: int) -> None:
        """Keep what an answer gives behind what is kept.

        Ordinals grow; what comes with one that was there already is the same
        again.
        """
        data = self._given(answer)
        entries, position, _, _ = self._state
        if self._closed or not data or (entries and entries[-1].ordinal >= ordinal):
            return
        start = entries[-1].end if entries else position
        entries.append(_Entry(start, ordinal, data))

    def take(self, size: int, taker: object = None) -> Data:
        """Return as much that is whole as fits size bytes.

        Raises OSError (EINVAL) where the first does not fit.
        """
        entries, position, _, _ = self._state
        while entries and entries[0].end <= position:
            entries.popleft()
        pieces: list[Data] = []
        end, room = position, size
        for entry in entries:
            fitting = self._fitting(entry.data, end - entry.start, room)
            pieces.append(fitting)
            room -= self._size(fitting)
            end += len(fitting)
            if end < entry.end:
                break
        if entries and end == position:
            raise OSError(errno.EINVAL, f"the first record does not fit {size} bytes")
        taken = pieces[0] if len(pieces) == 1 else self._joined(pieces)
        self._state = _State(entries, end, taker, position)
        return taken

    def put_back(self, taker: object, data: Data | None) -> None:
        """Undo a take of taker's, who got this where they got that far."""
        entries, position, last_taker, taken = self._state
        if last_taker is taker:
            self._state = _State(entries, taken, None, taken)
        elif data and not self._closed:  # another took meanwhile
            left = deque([_Entry(position - len(data), 0, data)])
            for start, ordinal, kept in entries:
                rest = self._behind(kept, position - start)
                if rest:
                    left.append(_Entry(start + len(kept) - len(rest), ordinal, rest))
            self._state = _State(left, position - len(data), None, 0)

    @abstractmethod
    def _given(self, answer: AnyAnswer) -> Data:
        """Return what an answer gives, nothing where it is none of ours."""

    @abstractmethod
    def _behind(self, data: Data, start: int) -> Data:
        """Return of data what is from start on; all where that is below 0."""

    @abstractmethod
    def _size(self, data: Data) -> int:
        """Return the bytes that it takes of a read."""

    @abstractmethod
    def _fitting(self, data: Data, start: int, size: int) -> Data:
        """Return of data, from start on, what fits size bytes."""

    @abstractmethod
    def _joined(self, pieces: list[Data]) -> Data:
        """Return one run of several."""


class UnreadRecords(Unread[bytes]):
    """Records."""

    answer = Records
    nothing = b""

    def _given(self, answer: AnyAnswer) -> bytes:
        return answer.data if isinstance(answer, Records) else b""

    def _behind(self, data: bytes, start: int) -> bytes:
        return data[max(0, start) :]

    def _size(self, data: bytes) -> int:
        return len(data)

    def _fitting(self, data: bytes, start: int, size: int) -> bytes:
        if len(data) - start <= size:
            return data[start:]
        end = start
        while True:
            following = end + HEADER.size + HEADER.unpack_from(data, end)[3]
            if following - start > size:
                return data[start:end]
            end = following

    def _joined(self, pieces: list[bytes]) -> bytes:
        return b"".join(pieces)


class UnreadEvents(Unread[tuple[DetailedEvent, ...]]):
    """A detailed device's events."""

    answer = Events
    nothing = ()

    def _given(self, answer: AnyAnswer) -> tuple[DetailedEvent, ...]:
        return answer.events if isinstance(answer, Events) else ()

    def _behind(self, data: tuple[DetailedEvent, ...], start: int) -> tuple[DetailedEvent, ...]:
        return data[max(0, start) :]

    def _size(self, data: tuple[DetailedEvent, ...]) -> int:
        return sum([event.size for event in data])

    def _fitting(
        self, data: tuple[DetailedEvent, ...], start: int, size: int
    ) -> tuple[DetailedEvent, ...]:
        rest = data[start:]
        for number, taken in enumerate(accumulate(event.size for event in rest)):
            if taken > size:
                return rest[:number]
        return rest

    def _joined(self, pieces: list[tuple[DetailedEvent, ...]]) -> tuple[DetailedEvent, ...]:
        return tuple(event for piece in pieces for event in piece)


AnyUnread = Unread[Any]
