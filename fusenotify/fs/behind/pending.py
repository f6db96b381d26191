# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of fanotify that were read and not yet told, in order, and what later ones tell.

behind.reading reads them, and behind.retelling tells them.  A record names its directory only
by a handle.  Where that directory was at that moment may be in a later record, by which it was
moved or removed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fusenotify.fs.behind.fanotify import (
    FAN_CREATE,
    FAN_DELETE,
    FAN_ONDIR,
    FAN_RENAME,
    NAMES,
    REPLACED,
    Record,
)

# The mask of a directory's rename.
_RENAMED = FAN_RENAME | FAN_ONDIR


class Place(NamedTuple):
    """Where a directory was: the handle of its parent, and its name there."""

    directory: bytes
    name: bytes


class Pending:
    """The records that wait.

    own is the pid whose records are echoes.  foreign counts the waiting records of others;
    appended counts all records that came, and is the number of the last one.
    """

    def __init__(self, own: int) -> None:
        self._own = own
        self._records: deque[Record] = deque()
        self._moves: dict[bytes, deque[Record]] = {}
        # The last record about an entry of a directory, or about the rename of an object, by
        # the handle of the directory or object.
        self._last: dict[bytes, Record] = {}
        # The last record of each process; the rename that may have replaced a directory.
        self._last_of: dict[int, Record] = {}
        self._replaced: dict[bytes, Record] = {}
        self.foreign = self.appended = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def next(self) -> float:
        """The number of the first record, of which there must be one."""
        return self._records[0].number

    def clear(self) -> None:
        """Forget all of them."""
        self._records.clear()
        self._moves.clear()
        self._last.clear()
        self._last_of.clear()
        self._replaced.clear()
        self.foreign = 0

    def append(self, record: Record) -> None:
        """Add a record at the end."""
        self.appended += 1
        record.number = self.appended
        self._records.append(record)
        if record.pid != self._own:
            self.foreign += 1
        for handle in _concerned(record):
            self._last[handle] = record
        if _says_where(record):
            assert record.target is not None
            self._moves.setdefault(record.target, deque()).append(record)
        if record.mask == REPLACED and record.directory is not None:
            before = self._last_of.get(record.pid)
            if before is not None and before.mask == _RENAMED:
                self._replaced[record.directory] = before
        self._last_of[record.pid] = record

    def pop(self) -> Record:
        """Take the first record.  If it is taken, it must not be told, as an echo."""
        record = self._records.popleft()
        if record.pid == self._own:
            record.taken = True
        else:
            self.foreign -= 1
        for handle in _concerned(record):
            if self._last.get(handle) is record:
                del self._last[handle]
        if _says_where(record):
            assert record.target is not None
            moves = self._moves[record.target]
            moves.remove(record)  # it is the first one
            if not moves:
                del self._moves[record.target]
        if record.mask == REPLACED and record.directory is not None:
            self._replaced.pop(record.directory, None)
        if not self._records:
            self._last_of.clear()
        return record

    def push(self, *records: Record) -> None:
        """Put records at the beginning."""
        for record in reversed(records):
            self.foreign += 1
            self._records.appendleft(record)
            for handle in _concerned(record):
                self._last.setdefault(handle, record)
            if _says_where(record):
                assert record.target is not None
                moves = self._moves.setdefault(record.target, deque())
                if record not in moves:
                    moves.appendleft(record)

    def defer(self, removal: Record) -> bool:
        """Tell a removal only after all waiting records about the removed object.

        For a file, these are the moves from the name and back.  Returns False if there are none.
        The kernel merges what one process does to a name into
        one record, in the place of the first.
        """
        assert removal.target is not None
        last = self._last.get(removal.target) if removal.is_dir else self._last_with(removal)
        if last is None:
            return False
        last.behind = (*last.behind, removal)
        # What comes behind our own change is told after it.
        removal.number = last.number + (0.5 if last.pid == self._own else 0)
        if _says_where(removal):
            self._moves.setdefault(removal.target, deque()).append(removal)
        assert removal.directory is not None
        above = self._last.get(removal.directory)
        if above is None or above.number <= removal.number:
            self._last[removal.directory] = removal
        return True

    def _last_with(self, removal: Record) -> Record | None:
        """Return the last record that a file's removal follows: it had the name before, or again.

        None if there is none.
        """
        place, found, there = (removal.directory, removal.name), None, True
        for record in self._records:
            if record.mask & FAN_RENAME and (record.directory, record.name) == place:
                if record.target == removal.target:
                    found, there = record, False
            elif place == _new_place(record):
                if record.target == removal.target:
                    found, there = record, True
                elif there:
                    break
        return found

    def own_last(self) -> Record | None:
        """Return the echo of our own last change; None if there is none.

        That of an exchange is the first of its two records.
        """
        found: Record | None = None
        for record in reversed(self._records):
            if record.pid == self._own and record.mask & NAMES:
                if found is not None:
                    return record if _are_halves(record, found) else found
                found = record
                if not record.mask & FAN_RENAME:
                    break
        return found

    def first_move(self, directory: bytes, *, is_gone: bool = False) -> Place | None:
        """Return where a directory was before the first waiting record of its move or removal.

        is_gone says that the directory does not exist any more; then a rename may have replaced
        it.
        """
        if moves := self._moves.get(directory):
            record = moves[0]
            assert record.directory is not None
            return Place(record.directory, record.name)
        rename = self._replaced.get(directory) if is_gone else None
        if rename is None or rename.new_directory is None:
            return None
        return Place(rename.new_directory, rename.new_name)

    def other_half(self, rename: Record) -> Record | None:
        """Return the second record of an exchange, whose first is given; None if it is none.

        The second record is marked as told.
        """
        following = self.next_of(rename.pid)
        if following is None or not _are_halves(rename, following):
            return None
        following.taken = True
        return following

    def concerns(self, directory: bytes | None) -> bool:
        """Return whether a record about a name in a directory waits."""
        return directory in self._last

    def next_of(self, pid: int) -> Record | None:
        """Return the first waiting record of a process; None if there is none."""
        return next((record for record in self._records if record.pid == pid), None)

    def take_count(self, rename: Record, handle: bytes | None) -> None:
        """Mark as told the record about the link count of the object that a rename replaced."""
        following = self.next_of(rename.pid)
        if following is not None and following.directory is None and following.target == handle:
            following.taken = True

    def replaced(self, rename: Record, is_gone: Callable[[bytes], bool]) -> bytes | None:
        """Return the handle of the directory that a rename replaced; None if it replaced none.

        The process's next record tells it, and is marked as told.  is_gone() returns whether the
        object with a handle has no name.
        """
        for record in self._records:
            if record.pid != rename.pid:
                continue
            handle = record.directory
            if record.mask == REPLACED and handle is not None and is_gone(handle):
                record.taken = True
                return handle
            return None
        return None


def _new_place(record: Record) -> tuple[bytes | None, bytes]:
    """Return the directory and the name that an object got."""
    if record.mask & FAN_RENAME:
        return record.new_directory, record.new_name
    return (record.directory if record.mask & FAN_CREATE else None), record.name


def _are_halves(one: Record, other: Record) -> bool:
    """Return whether two records, which follow each other, are those of one exchange."""
    return bool(
        one.mask & other.mask & FAN_RENAME
        and one.target != other.target
        and (one.directory, one.name) == (other.new_directory, other.new_name)
        and (one.new_directory, one.new_name) == (other.directory, other.name)
    )


def _says_where(record: Record) -> bool:
    """Return whether a record tells where a directory was before."""
    return bool(record.is_dir and record.mask & (FAN_RENAME | FAN_DELETE) and record.target)


def _concerned(record: Record) -> Iterator[bytes]:
    # What is open may be used behind the removal of its directory.
    if record.mask & NAMES and record.directory is not None:
        yield record.directory
    if record.mask & FAN_RENAME:
        if record.new_directory is not None:
            yield record.new_directory
        if record.target is not None:
            yield record.target
