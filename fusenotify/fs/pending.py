# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of fanotify that were read and not yet told, in their order, and what they say of later.

fs.behind reads them, and fs.retelling tells them.  A record says which directory it was in by
its handle alone; where that directory was at that moment a later record may say, by which it was
moved or removed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fusenotify.fs.fanotify import FAN_ATTRIB, FAN_DELETE, FAN_ONDIR, FAN_RENAME, Record

# What a rename of a directory says of it, and of an empty one that it replaced.
_RENAMED = FAN_RENAME | FAN_ONDIR
_REPLACED = FAN_ATTRIB | FAN_ONDIR


class Place(NamedTuple):
    """Where a directory was: the handle of the one above, and its name there."""

    directory: bytes
    name: bytes


class Pending:
    """The records that wait.

    own is the process whose records are echoes; foreign counts the others that wait, appended
    and taken all that came and went.
    """

    def __init__(self, own: int) -> None:
        self._own = own
        self._records: deque[Record] = deque()
        self._moves: dict[bytes, deque[Record]] = {}
        # The last record about an entry of a directory, or of a rename of something.
        self._last: dict[bytes, Record] = {}
        # The last record of each process; the rename by which a directory may have been replaced.
        self._last_of: dict[int, Record] = {}
        self._replaced: dict[bytes, Record] = {}
        self.foreign = self.appended = self.taken = 0

    def __len__(self) -> int:
        return len(self._records)

    def clear(self) -> None:
        """Forget all of them."""
        self.taken = self.appended
        self._records.clear()
        self._moves.clear()
        self._last.clear()
        self._last_of.clear()
        self._replaced.clear()
        self.foreign = 0

    def append(self, record: Record) -> None:
        """Put one behind the others."""
        self.appended += 1
        record.number = self.appended
        self._records.append(record)
        if record.pid == self._own:
            return
        self.foreign += 1
        for handle in _concerned(record):
            self._last[handle] = record
        if _says_where(record):
            assert record.target is not None
            self._moves.setdefault(record.target, deque()).append(record)
        if record.mask == _REPLACED and record.directory is not None:
            before = self._last_of.get(record.pid)
            if before is not None and before.mask == _RENAMED:
                self._replaced[record.directory] = before
        self._last_of[record.pid] = record

    def pop(self) -> Record:
        """Take the first one; where it is none to be told, an echo, it has no mask."""
        self.taken += 1
        record = self._records.popleft()
        if record.pid == self._own:
            record.mask = 0
            return record
        self.foreign -= 1
        for handle in _concerned(record):
            if self._last.get(handle) is record:
                del self._last[handle]
        if _says_where(record):
            assert record.target is not None
            moves = self._moves[record.target]
            moves.remove(record)  # the first one
            if not moves:
                del self._moves[record.target]
        if record.mask == _REPLACED and record.directory is not None:
            self._replaced.pop(record.directory, None)
        if not self._records:
            self._last_of.clear()
        if record.taken:
            record.mask = 0
        return record

    def push(self, *records: Record) -> None:
        """Put some before the others."""
        for record in reversed(records):
            self.taken -= 1
            self.foreign += 1
            self._records.appendleft(record)
            for handle in _concerned(record):
                self._last.setdefault(handle, record)
            if _says_where(record):
                assert record.target is not None
                moves = self._moves.setdefault(record.target, deque())
                if record not in moves:
                    moves.appendleft(record)

    def at(self, count: int) -> Record:
        """Return the record that so many come before."""
        return self._records[count]

    def defer(self, removal: Record) -> bool:
        """Have a removal told behind all that is told of what is removed; False: there is nothing.

        The kernel puts together what one process does to a name, in the place of what was first.
        """
        assert removal.target is not None
        last = self._last.get(removal.target)
        if last is None:
            return False
        last.behind = (*last.behind, removal)
        removal.number = last.number
        if _says_where(removal):
            self._moves.setdefault(removal.target, deque()).append(removal)
        assert removal.directory is not None
        above = self._last.get(removal.directory)
        if above is None or above.number <= removal.number:
            self._last[removal.directory] = removal
        return True

    def echo(self, name: bytes, directory: bytes | None = None) -> int:
        """Return how many records come before our own change of a name; -1 where there is none.

        directory is the handle of its directory, or None where any will do.
        """
        for count, record in enumerate(self._records):
            if (
                record.pid == self._own
                and record.is_about(name)
                and directory in (None, record.directory, record.new_directory)
            ):
                return count
        return -1

    def has(self, name: bytes) -> bool:
        """Return whether others' records are about a name, in whichever directory."""
        return any(record.pid != self._own and record.is_about(name) for record in self._records)

    def first_move(self, directory: bytes, *, is_gone: bool = False) -> Place | None:
        """Return where a directory was, by the first record by which it was moved or removed.

        is_gone says that it is not there any more; then it may have been replaced.
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
        """Return the record of what came in exchange for what a rename moved, told with it."""
        for record in self._records:
            if record.pid != rename.pid:
                continue
            if (
                record.mask & FAN_RENAME
                and record.target != rename.target
                and record.directory == rename.new_directory
                and record.new_directory == rename.directory
                and (record.name, record.new_name) == (rename.new_name, rename.name)
            ):
                record.taken = True
                return record
            return None
        return None

    def next_of(self, pid: int) -> Record | None:
        """Return the first record of a process that waits."""
        return next((record for record in self._records if record.pid == pid), None)

    def take_count(self, rename: Record, handle: bytes | None) -> None:
        """What a rename replaced says right behind it that it has a name less: that is told."""
        following = self.next_of(rename.pid)
        if following is not None and following.directory is None and following.target == handle:
            following.taken = True

    def replaced(self, rename: Record, is_gone: Callable[[bytes], bool]) -> bytes | None:
        """Return the handle of the directory that a rename replaced, which says so right behind it.

        is_gone says whether a handle is that of something without a name.
        """
        for record in self._records:
            if record.pid != rename.pid:
                continue
            handle = record.directory
            if record.mask == _REPLACED and handle is not None and is_gone(handle):
                record.taken = True
                return handle
            return None
        return None


def _says_where(record: Record) -> bool:
    """Return whether a record says where a directory was until then."""
    return bool(record.is_dir and record.mask & (FAN_RENAME | FAN_DELETE) and record.target)


def _concerned(record: Record) -> Iterator[bytes]:
    if record.directory is not None and record.name != b".":
        yield record.directory
    if record.mask & FAN_RENAME:
        if record.new_directory is not None:
            yield record.new_directory
        if record.target is not None:
            yield record.target
