# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's file: a SQLite database in WAL mode, with a row for each batch of entries.

history.journal writes to it from a thread of its own, and others read at the same time.

Invariants
    Entries are numbered without holes, and a batch is in the file whole or not at all.
    Only one store at a time has a file: it holds a lock on another file beside it.
    The batches take at most Bounds.size bytes; the oldest are removed first, and their
        room is used again.
    When a store is opened again, a gap covers the time in which it was closed.  The gap and the
        new run are in the file together, or neither is.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import fcntl
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from fusenotify.history.bounds import Bounds
from fusenotify.history.cursors import Cursor
from fusenotify.history.entries import Entry, Reason, gap

# The application id of our journals ("fuse"), and the version of their format.
_APPLICATION = 0x66757365
VERSION = 2

_SCHEMA = (
    "CREATE TABLE journal (id TEXT NOT NULL, source BLOB NOT NULL)",
    # last is the number of the newest entry in the batch, and oldest that of the oldest.
    "CREATE TABLE batches (last INTEGER PRIMARY KEY, oldest INTEGER NOT NULL, "
    "time INTEGER NOT NULL, entries BLOB NOT NULL)",
    # The times in which a daemon kept the journal.  first and last are the numbers of the run's
    # entries.  Nothing is missing up to alive; ended is true if the daemon closed the journal.
    "CREATE TABLE runs (run INTEGER PRIMARY KEY, id TEXT NOT NULL, first INTEGER NOT NULL, "
    "last INTEGER NOT NULL, alive INTEGER NOT NULL, ended INTEGER NOT NULL)",
)
# About how many bytes a batch takes in the file besides its entries.
_ROW_BYTES = 40
# When the file is full, one part in so many of the size is made free at once.
_SHARE_REMOVED = 16
# How many runs are remembered after their entries are gone.
_MOST_RUNS = 1000
# No journal has so many entries: a larger number means that the file is damaged.
_TOO_MANY = 1 << 60

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
    opened, in ns since 1970.

    Raises OSError: EINVAL (not a journal, a damaged one, one of another directory or of another
    format), EBUSY (another daemon has it), and as open(2).
    """

    last: int
    oldest: int
    used: int
    opened: int

    def __init__(self, path: bytes, source: bytes, bounds: Bounds, *, synced: bool = False) -> None:
        self.bounds = bounds
        self.path = path
        self._reading = threading.Lock()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Entry]).decode
        with contextlib.ExitStack() as opened, self._errors():
            self._lock = _locked(path)
            opened.callback(os.close, self._lock)
            self._writer = _connected(path, synced)
            opened.callback(self._writer.close)
            with self._transaction():
                self.id = self._checked(source)
            self._reader = _connected(path, synced)
            opened.callback(self._reader.close)
            self._start_run()
            opened.pop_all()

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
            self._writer.close()
            with self._reading:
                self._reader.close()
            os.close(self._lock)

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

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep entries; their numbers begin with last + 1.

        Raises OSError (EIO, ENOSPC); then none of them is kept.
        """
        assert entries[0].sequence == self.last + 1, "entries are numbered without holes"
        newest = entries[-1]
        data = self._packed(entries)
        with self._errors(), self._transaction():
            self._insert(entries, data)
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

        There may be more after those.

        Raises OSError (EIO).
        """
        with self._reading, self._errors():
            row = self._reader.execute(
                "SELECT entries FROM batches WHERE last > ? ORDER BY last LIMIT 1", (sequence,)
            ).fetchone()
        if row is None:
            return []
        with self._errors():
            entries = self._decode(zlib.decompress(row[0]))
        return [entry for entry in entries if entry.sequence > sequence]

    def cursor(self, sequence: int) -> Cursor:
        """Return the place after the entry with a number."""
        place = bisect.bisect_right(self._runs, sequence, key=lambda run: run[0])
        return Cursor(self.id, self._runs[max(place - 1, 0)][1], sequence)

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
        with self._reading, self._errors():
            row = self._reader.execute(
                "SELECT time FROM batches WHERE last <= ? ORDER BY last DESC LIMIT 1", (sequence,)
            ).fetchone()
        return row[0] if row else 0

    # Opening.

    def _checked(self, source: bytes) -> str:
        """Check the file, and return the id of the journal; an empty file becomes a new one.

        Raises OSError (EINVAL).
        """
        (tables,) = self._one("SELECT count(*) FROM sqlite_master")
        (application,) = self._one("PRAGMA application_id")
        (version,) = self._one("PRAGMA user_version")
        if not tables and not application:
            for statement in _SCHEMA:
                self._writer.execute(statement)
            self._writer.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._writer.execute(f"PRAGMA user_version = {VERSION}")
            new = secrets.token_hex(8), source
            self._writer.execute("INSERT INTO journal VALUES (?, ?)", new)
        elif application != _APPLICATION:
            raise OSError(errno.EINVAL, "this is a database, but not a journal of fusenotify")
        elif version != VERSION:
            raise OSError(
                errno.EINVAL,
                f"the journal has format {version}, but this fusenotify knows only {VERSION}",
            )
        journal, kept = self._one("SELECT id, source FROM journal")
        if kept != source:
            raise OSError(
                errno.EINVAL, f"this is the journal of another directory, {os.fsdecode(kept)}"
            )
        return str(journal)

    def _start_run(self) -> None:
        """Begin a run; if there was one before, with a gap."""
        before = self._one("SELECT last, alive, ended FROM runs ORDER BY run DESC LIMIT 1")
        self.last = before[0] if before else 0
        if not 0 <= self.last < _TOO_MANY:
            raise OSError(errno.EINVAL, "its numbers are impossible (is the journal damaged?)")
        self.used, oldest = self._one(
            "SELECT ifnull(sum(length(entries) + ?), 0), min(oldest) FROM batches", _ROW_BYTES
        )
        self.oldest = oldest or self.last + 1
        self.opened = now = time.time_ns()
        self._gap: Entry | None = None
        with self._transaction():
            first = self.last + 1
            self._run = self._writer.execute(
                "INSERT INTO runs (id, first, last, alive, ended) VALUES (?, ?, ?, ?, 0)",
                (secrets.token_hex(8), first, self.last, now),
            ).lastrowid
            if before:
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
            self._runs: list[tuple[int, str]] = self._writer.execute(
                "SELECT first, id FROM runs ORDER BY run"
            ).fetchall()

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
        for last, first, ended, size in batches:
            if remove <= 0 and ended >= too_old:
                oldest = first
                break
            upto = last
            remove -= size
            used -= size
        else:
            oldest = upto + 1 if upto else oldest
        batches.close()
        if upto:
            self._writer.execute("DELETE FROM batches WHERE last <= ?", (upto,))
        return used, oldest

    def _one(self, query: str, *arguments: object) -> tuple[Any, ...]:
        """Return the first row of a query's result, or ()."""
        row: tuple[Any, ...] | None = self._writer.execute(query, arguments).fetchone()
        return row or ()

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
        except (zlib.error, msgspec.DecodeError) as error:
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


def _locked(path: bytes) -> int:
    """Return a descriptor that holds the lock of a journal's file, which is made if missing.

    The lock is on a file beside it: closing any descriptor of the database itself would end
    SQLite's own locks in this process.

    Raises OSError; EBUSY if another process holds the lock.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    descriptor = os.open(path + b".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OSError(errno.EBUSY, "another daemon keeps this journal") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _connected(path: bytes, synced: bool) -> sqlite3.Connection:
    """Return a connection that any thread may use, one at a time, without implicit transactions."""
    connection = sqlite3.connect(os.fsdecode(path), isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
    except BaseException:
        connection.close()
        raise
    return connection
