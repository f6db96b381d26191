# SPDX-License-Identifier: GPL-2.0-or-later
"""Received records of a device, or events of a detailed one, that are not read yet.

connection puts in all that arrives for a device, whichever call asked for it,
and reads take from here; so a read that is given up loses nothing.

Invariants
    Records and events are taken whole, once, and in the order of arrival.
    A take changes a single attribute, in one step: when an exception from
        outside (a signal handler's) strikes, they are either here or taken.
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

# A device's data: whole records one after another (bytes), or a tuple of events.
Data = TypeVar("Data", bound=Sized)


class _Entry(NamedTuple, Generic[Data]):
    """The data of one answer.

    start is its position in all the device's data, in bytes or events; ordinal is the
    number of the answer.
    """

    start: int
    ordinal: int
    data: Data

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class _State(NamedTuple, Generic[Data]):
    """The entries, and the position of the first byte or event that is not taken.

    taker has taken what is before it, from the position taken on.
    """

    entries: deque[_Entry[Data]]
    position: int
    taker: object
    taken: int


class Unread(ABC, Generic[Data]):
    """The data that arrived for a device and was not taken, oldest first.

    answer is the type of answers that bring it, nothing is empty data.
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
        """Return how many bytes a read could return."""
        entries, position, _, _ = self._state
        return sum(self._size(self._behind(data, position - start)) for start, _, data in entries)

    def close(self) -> None:
        """Drop all data, and any that is put later."""
        self._closed = True
        self._state = _State(deque(), 0, None, 0)

    def holds(self, answer: AnyAnswer) -> bool:
        """Return whether an answer brings data."""
        return bool(self._given(answer))

    def put(self, answer: AnyAnswer, ordinal: int) -> None:
        """Append the data of an answer.

        Ordinals grow; an answer with an ordinal that was put before is the same
        answer, and is ignored.
        """
        data = self._given(answer)
        entries, position, _, _ = self._state
        if self._closed or not data or (entries and entries[-1].ordinal >= ordinal):
            return
        start = entries[-1].end if entries else position
        entries.append(_Entry(start, ordinal, data))

    def take(self, size: int, taker: object = None) -> Data:
        """Return as many whole records or events as fit size bytes.

        Raises OSError (EINVAL) if the first one does not fit.
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
        """Undo the last take() of taker; data is what it returned, if it came to that."""
        entries, position, last_taker, taken = self._state
        if last_taker is taker:
            self._state = _State(entries, taken, None, taken)
        elif data and not self._closed:  # another taker has taken since
            left = deque([_Entry(position - len(data), 0, data)])
            for start, ordinal, kept in entries:
                rest = self._behind(kept, position - start)
                if rest:
                    left.append(_Entry(start + len(kept) - len(rest), ordinal, rest))
            self._state = _State(left, position - len(data), None, 0)

    @abstractmethod
    def _given(self, answer: AnyAnswer) -> Data:
        """Return the data of an answer; nothing if the answer is of another type."""

    @abstractmethod
    def _behind(self, data: Data, start: int) -> Data:
        """Return the part of data from start on; all of it if start is below 0."""

    @abstractmethod
    def _size(self, data: Data) -> int:
        """Return the number of bytes of a read that data takes."""

    @abstractmethod
    def _fitting(self, data: Data, start: int, size: int) -> Data:
        """Return the part of data, from start on, that fits size bytes."""

    @abstractmethod
    def _joined(self, pieces: list[Data]) -> Data:
        """Return the pieces joined."""


class UnreadRecords(Unread[bytes]):
    """Unread records."""

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
    """Unread events of a detailed device."""

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
