# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's entries on disk: a SQLite database with a row for each batch of entries.

history.database opens the files.  history.journal writes from a thread of its own, and others
read at the same time.

Invariants
    Entries are numbered without holes, and a batch is in the file whole or not at all.
    The batches take at most Bounds.size bytes; the oldest are removed first, and their
        room is used again.
    Within a batch, times never fall.
    Readers get nothing after the entry with the number last, also while that lags behind the file.
    When a store is opened again, a gap covers the time in which it was closed.  The gap and the
        new run are in the file together, or neither is.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from fusenotify.bits import IN_CREATE, IN_ISDIR, IN_MOVED_TO
from fusenotify.history.bounds import Bounds
from fusenotify.history.cursors import Cursor
from fusenotify.history.database import Database, Id, Row, checked, row_of
from fusenotify.history.entries import Entry, Number, Reason, Time, gap

# About how many bytes a batch takes in the file besides its entries.
_ROW_BYTES = 40
# When the file is full, one part in so many of the size is made free at once.
_SHARE_REMOVED = 16
# How many runs are remembered after their entries are gone.
_MOST_RUNS = 1000

# The errno for each of SQLite's errors.
_ERRNOS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_CORRUPT: errno.EINVAL,
    sqlite3.SQLITE_NOTADB: errno.EINVAL,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
}


class Store:
    """The file of a journal, which only this process uses.

    path is that of the file, source that of the directory whose changes it keeps.  id is the
    journal's id; last is the number of the newest entry, oldest that of the oldest one that is
    kept (last + 1 if there is none).  With synced, a kept entry survives a power failure;
    otherwise it survives the end of the process.

    used is about how many bytes of the file the entries take.  opened is when the store was
    opened, and begun when the journal was made, in ns since 1970.

    Raises OSError: EINVAL (not a journal, a damaged one, one of another directory or of another
    format), and as Database.
    """

    id: str
    begun: int
    last: int
    oldest: int
    used: int
    opened: int

    def __init__(self, path: bytes, source: bytes, bounds: Bounds, *, synced: bool = False) -> None:
        self.bounds = bounds
        self.path = path
        self._source = source
        self._synced = synced
        self._reading = threading.Lock()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Entry]).decode
        self._open(None)

    def close(self, until: int | None) -> None:
        """Record that nothing is missing up to a time, in ns since 1970, and close the file.

        With None, changes are missing, which the next run reports as after a crash.

        Raises OSError (EIO, ENOSPC).
        """
        try:
            if until is not None:
                with self._errors(), self._transaction():
                    self._keep_alive(self.last, until, ended=True)
        finally:
            with self._reading:
                self._database.close()

    # For the thread that writes.

    def begin(self, now: int) -> None:
        """Extend the gap before this run to a time, in ns since 1970, from which changes are heard.

        Raises OSError (EIO, ENOSPC).
        """
        missing = self._gap
        if missing is not None:
            missing.time = max(missing.time, now)
            with self._errors(), self._transaction():
                self._writer.execute(
                    "UPDATE batches SET time = ?, entries = ? WHERE last = ?",
                    (missing.time, self._packed([missing]), missing.sequence),
                )

    def is_there(self) -> bool:
        """Return whether the journal's files are still the ones that were opened."""
        return self._database.is_there()

    def open_again(self) -> None:
        """Open what is at the path now; if nothing is there, a new journal begins.

        Numbers go on, so readers notice which entries are gone.

        Raises OSError, as Store.
        """
        with self._reading:
            self._database.close()
            with self._errors():
                self._database.remove_log()
            self._open(self.last)

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep entries; their numbers begin with last + 1.

        Raises OSError (EIO, ENOSPC); then none of them is kept.
        """
        assert entries[0].sequence == self.last + 1, "entries are numbered without holes"
        newest = entries[-1]
        data = self._packed(entries)
        with self._errors(), self._transaction():
            self._insert(entries, data)
            self._writer.executemany(
                "INSERT OR REPLACE INTO directories VALUES (?, ?)",
                [(entry.path, entry.sequence) for entry in entries if _replaces(entry)],
            )
            # Later changes may be waiting.
            self._keep_alive(newest.sequence, newest.time)
            used, oldest = self._without_old(self.used + len(data) + _ROW_BYTES)
        self.used, self.oldest, self.last = used, oldest, newest.sequence

    def keep_alive(self, until: int) -> None:
        """Record that nothing is missing up to a time, and remove batches that are too old.

        Raises OSError (EIO, ENOSPC).
        """
        with self._errors(), self._transaction():
            self._keep_alive(self.last, until)
            used, oldest = self._without_old(self.used)
        self.used, self.oldest = used, oldest

    # For all threads.

    def read(self, sequence: int) -> list[Entry]:
        """Return the oldest kept entries with larger numbers, or [] if there are none.

        There may be more after those.  Damaged ones are a gap, with the number of the last one.

        Raises OSError (EIO).
        """
        row = self.ask(
            tuple[Number, Time, object],
            "SELECT last, time, entries FROM batches WHERE last > ? AND last <= ? "
            "ORDER BY last LIMIT 1",
            sequence,
            self.last,
        )
        if not row:
            return []
        last, until, data = row
        try:
            entries = self._decode(zlib.decompress(row_of(bytes, data)))
            numbers = [entry.sequence for entry in entries]
            is_whole = numbers == [*range(last + 1 - len(entries), last + 1)] != []
        except (zlib.error, msgspec.MsgspecError):
            is_whole = False
        if not is_whole:
            return [gap(last, min(self.time_before(sequence), until), until, Reason.DAMAGED)]
        return [entry for entry in entries if entry.sequence > sequence]

    def cursor(self, sequence: int) -> Cursor:
        """Return the place after the entry with a number."""
        place = bisect.bisect_right(self._runs, sequence, key=lambda run: run[0])
        return Cursor(self.id, self._runs[max(place - 1, 0)][1], sequence)

    def ask(self, kind: type[Row], query: str, *arguments: object) -> Row | None:
        """Return the first row of a query's result, of which kind has the types, or None.

        Raises OSError (EIO).
        """
        with self._reading, self._errors():
            row = self._reader.execute(query, arguments).fetchone()
            return None if row is None else row_of(kind, row)

    @property
    def first(self) -> int:
        """The number of the first entry that this journal ever had."""
        return self._runs[0][0]

    def reached(self, cursor: Cursor) -> int:
        """Return how far this journal has what the journal had in which a cursor was made.

        That is cursor.sequence, unless this is an older copy of that journal.
        """
        runs = self._runs
        if cursor.sequence < runs[0][0]:
            return cursor.sequence  # before all runs that are remembered
        for number, (_, run) in enumerate(runs):
            if run == cursor.run:
                end = runs[number + 1][0] - 1 if number + 1 < len(runs) else self.last
                return min(cursor.sequence, end)
        return -1

    def time_before(self, sequence: int) -> int:
        """Return the time of the newest batch up to a number, in ns since 1970; 0 if unknown.

        Raises OSError (EIO).
        """
        row = self.ask(
            tuple[Time],
            "SELECT time FROM batches WHERE last <= ? ORDER BY last DESC LIMIT 1",
            sequence,
        )
        return row[0] if row else 0

    # Opening.

    def _open(self, last: int | None) -> None:
        """Open the files and begin a run; last is the number of the newest entry, if known."""
        with contextlib.ExitStack() as opened, self._errors():
            self._database = database = Database(self.path, self._synced)
            opened.callback(database.close)
            self._writer, self._reader = database.writer, database.reader
            with self._transaction():
                self.id, self.begun = checked(self._writer, self._source)
            self._start_run(last)
            database.settle()
            opened.pop_all()

    def _start_run(self, last: int | None) -> None:
        """Begin a run; if there was one before, with a gap.

        If the number of the newest entry is known, the run goes on without a gap: readers notice
        where numbers are missing.
        """
        query = "SELECT last, alive, ended FROM runs ORDER BY run DESC LIMIT 1"
        found = self._writer.execute(query).fetchone()
        before = None if found is None else row_of(tuple[Number, Time, object], found)
        kept = before[0] if before else 0
        if last is not None and kept > last:
            raise OSError(errno.EINVAL, "another journal has taken the place of this one")
        self.last = kept if last is None else last
        query = "SELECT ifnull(sum(length(entries) + ?), 0), min(oldest), max(last) FROM batches"
        found = self._writer.execute(query, (_ROW_BYTES,)).fetchone()
        self.used, oldest, newest = row_of(tuple[Number, Number | None, Number | None], found)
        if newest is not None and newest > kept:
            raise OSError(errno.EINVAL, "its numbers are impossible (is the journal damaged?)")
        self.oldest = oldest or self.last + 1
        self.opened = now = time.time_ns()
        self._gap: Entry | None = None
        with self._transaction():
            first = self.last + 1
            self._run = self._writer.execute(
                "INSERT INTO runs (id, first, last, alive, ended) VALUES (?, ?, ?, ?, 0)",
                (secrets.token_hex(8), first, self.last, now),
            ).lastrowid
            if before and last is None:
                _, alive, ended = before
                reason = Reason.STOPPED if ended else Reason.CRASHED
                # The clock may have been set back meanwhile.
                self._gap = gap(first, min(alive, now), max(alive, now), reason)
                data = self._packed([self._gap])
                self._insert([self._gap], data)
                self._keep_alive(first, now)
                self.used += len(data) + _ROW_BYTES
                self.last = first
            self._writer.execute(
                "DELETE FROM runs WHERE run <= ? AND last < ?",
                ((self._run or 0) - _MOST_RUNS, self.oldest),
            )
            found = self._writer.execute("SELECT first, id FROM runs ORDER BY run").fetchall()
            self._runs = row_of(list[tuple[Number, Id]], found)

    def _packed(self, entries: Sequence[Entry]) -> bytes:
        return zlib.compress(self._encode(entries), 1)

    # The methods below are called in a transaction.

    def _insert(self, entries: Sequence[Entry], data: bytes) -> None:
        newest = entries[-1]
        self._writer.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?)",
            (newest.sequence, entries[0].sequence, newest.time, data),
        )

    def _keep_alive(self, last: int, until: int, ended: bool = False) -> None:
        self._writer.execute(
            "UPDATE runs SET last = ?, alive = ?, ended = ? WHERE run = ?",
            (last, until, ended, self._run),
        )

    def _without_old(self, used: int) -> tuple[int, int]:
        """Remove batches by the bounds; return the bytes used, and the oldest entry's number."""
        remove = used - self.bounds.size
        if remove > 0:
            remove += self.bounds.size // _SHARE_REMOVED
        age = self.bounds.age
        too_old = 0 if age is None else time.time_ns() - int(age * 1e9)
        oldest = self.oldest
        batches = self._writer.execute(
            "SELECT last, oldest, time, length(entries) + ? FROM batches ORDER BY last",
            (_ROW_BYTES,),
        )
        upto = 0
        with contextlib.closing(batches):  # an open one would keep an old view of the file
            for found in batches:
                last, first, ended, size = row_of(tuple[Number, Number, Time, Number], found)
                if remove <= 0 and ended >= too_old:
                    oldest = first
                    break
                upto = last
                remove -= size
                used -= size
            else:
                oldest = upto + 1 if upto else oldest
        if upto:
            self._writer.execute("DELETE FROM batches WHERE last <= ?", (upto,))
            self._writer.execute("DELETE FROM directories WHERE sequence <= ?", (upto,))
        return used, oldest

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # SQLite may have ended it, as on a full disk
                self._writer.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into OSErrors that name the file."""
        try:
            yield
        # SQLite's own messages may quote what is no text.
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            text = f"{error} (is the journal damaged?)"
            raise OSError(errno.EIO, text, os.fsdecode(self.path)) from error
        except sqlite3.Error as error:
            primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
            code = _ERRNOS.get(primary, errno.EIO)
            text = f"{error} (is the journal damaged?)" if code == errno.EINVAL else str(error)
            raise OSError(code, text, os.fsdecode(self.path)) from error
        except OSError as error:
            error.filename = os.fsdecode(self.path)
            raise


def _replaces(entry: Entry) -> bool:
    """Return whether another directory has the entry's path from then on.

    After a gap, any directory may be another one: the path of a gap is that of the root.
    """
    if entry.reason is not None:
        return True
    return bool(entry.mask & IN_ISDIR and entry.mask & (IN_CREATE | IN_MOVED_TO))
