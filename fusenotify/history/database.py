# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a journal: a SQLite database and a lock, which belong to this user and nobody else.

history.store reads and writes the database.

Invariants
    Only one process at a time has the files: it holds a lock on a file beside the database.
    No file is used that another user owns or may replace.
    Whatever the file has, rows that are used have the types and ranges that we store: SQLite
        keeps any value in any column.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sqlite3
import stat
import time
from typing import Annotated, TypeVar

import msgspec

from fusenotify.history.entries import Time

Row = TypeVar("Row")
# The id of a journal or a run.
Id = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]

# The application id of our journals ("fuse"), and the version of their format.
_APPLICATION = 0x66757365
VERSION = 3
_BEFORE_BEGUN = 2  # the version without journal.begun

_SCHEMA = (
    # begun is when the journal was made: it knows nothing from before.
    "CREATE TABLE journal (id TEXT NOT NULL, source BLOB NOT NULL, begun INTEGER NOT NULL)",
    # last is the number of the newest entry in the batch, and oldest that of the oldest.  No entry
    # has a later time than the newest, whose time is that of the batch.
    "CREATE TABLE batches (last INTEGER PRIMARY KEY, oldest INTEGER NOT NULL, "
    "time INTEGER NOT NULL, entries BLOB NOT NULL)",
    # By the path of a directory, the number of the entry with which it got this path.
    "CREATE TABLE directories (path BLOB PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID",
    # The times in which a daemon kept the journal.  first and last are the numbers of the run's
    # entries.  Nothing is missing up to alive; ended is true if the daemon closed the journal.
    "CREATE TABLE runs (run INTEGER PRIMARY KEY, id TEXT NOT NULL, first INTEGER NOT NULL, "
    "last INTEGER NOT NULL, alive INTEGER NOT NULL, ended INTEGER NOT NULL)",
)
_LOCK = b".lock"
# What SQLite keeps beside a database in WAL mode while it is open.
_BESIDE = (b"-wal", b"-shm")


class Database:
    """The open files of a journal.

    path is that of the database, without symbolic links.  writer and reader are connections
    that any thread may use, one at a time, without implicit transactions.

    Raises OSError: EBUSY (another daemon has the files), EPERM (they are another user's, or in a
    directory in which all users can replace them), EINVAL (not regular files, or the database has
    several names), and as open(2); sqlite3.Error.
    """

    def __init__(self, path: bytes, synced: bool) -> None:
        self.path = os.path.realpath(path)
        self._lock = -1
        try:
            _check_directory(os.path.dirname(self.path))
            # Closing a descriptor of the database later would end SQLite's own locks.
            os.close(_opened(self.path))
            for end in _BESIDE:
                self._check(self.path + end)
            self._lock = _opened(self.path + _LOCK)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.writer = _connected(self.path, synced)
            try:
                self.reader = _connected(self.path, synced)
            except BaseException:
                self.writer.close()
                raise
        except BlockingIOError:
            self._close_lock()
            raise OSError(errno.EBUSY, "another daemon keeps this journal") from None
        except BaseException:
            self._close_lock()
            raise
        self._identities: dict[bytes, tuple[int, int]] = {}

    def settle(self) -> None:
        """Note which files these are, when SQLite has made its own.

        Raises OSError (EPERM, EINVAL) if somebody else made one of them meanwhile.
        """
        for end in (b"", _LOCK, *_BESIDE):
            found = self._check(self.path + end)
            if found is not None:
                self._identities[end] = found.st_dev, found.st_ino

    def is_there(self) -> bool:
        """Return whether the files are open, and still the ones that were opened."""
        # Without identities, they were never completely open.
        is_open = self._lock >= 0 and bool(self._identities)
        return is_open and all(map(self._is_there, self._identities))

    def remove_log(self) -> None:
        """Remove what SQLite left beside a database that was taken away, after close().

        SQLite would apply it to the file that has the database's name now.
        """
        if self._is_there(b""):
            return
        for end in _BESIDE:
            if self._is_there(end):
                os.unlink(self.path + end)

    def close(self) -> None:
        """Close the files.  Closing twice is harmless."""
        try:
            self.writer.close()
            self.reader.close()
        finally:
            self._close_lock()

    def _close_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _is_there(self, end: bytes) -> bool:
        """Return whether one of the files is still the one that was opened."""
        try:
            found = os.lstat(self.path + end)
        except OSError:
            return False
        return self._identities.get(end) == (found.st_dev, found.st_ino)

    def _check(self, path: bytes) -> os.stat_result | None:
        """Return the attributes of a file that SQLite uses, or None if it does not exist."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        _check_file(path, found)
        return found


def row_of(kind: type[Row], found: object) -> Row:
    """Return one row, or several, of which kind has the types.

    Raises msgspec.DecodeError.
    """
    return msgspec.convert(found, kind, builtin_types=(bytes,))


def checked(writer: sqlite3.Connection, source: bytes) -> tuple[str, int]:
    """Check a database, and return the id of the journal and when it was begun.

    An empty database becomes a new journal of source.  Call this in a transaction.

    Raises OSError (EINVAL), sqlite3.Error, msgspec.DecodeError.
    """
    (tables,) = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = writer.execute("PRAGMA application_id").fetchone()
    (version,) = writer.execute("PRAGMA user_version").fetchone()
    if not tables and not application:
        for statement in _SCHEMA:
            writer.execute(statement)
        writer.execute(f"PRAGMA application_id = {_APPLICATION}")
        new = secrets.token_hex(8), source, time.time_ns()
        writer.execute("INSERT INTO journal VALUES (?, ?, ?)", new)
    elif application != _APPLICATION:
        raise OSError(errno.EINVAL, "this is a database, but not a journal of fusenotify")
    elif version == _BEFORE_BEGUN:
        writer.execute("ALTER TABLE journal ADD COLUMN begun INTEGER NOT NULL DEFAULT 0")
        oldest = writer.execute("SELECT min(time) FROM batches").fetchone()[0]
        writer.execute("UPDATE journal SET begun = ?", (oldest or time.time_ns(),))
        writer.execute(_SCHEMA[2])
        # It is not known which directories were replaced until now: all may have been.
        writer.execute("INSERT INTO directories SELECT x'', ifnull(max(last), 0) FROM runs")
    elif version != VERSION:
        raise OSError(
            errno.EINVAL,
            f"the journal has format {version}, but this fusenotify knows only {VERSION}",
        )
    writer.execute(f"PRAGMA user_version = {VERSION}")
    found = writer.execute("SELECT id, source, begun FROM journal").fetchone()
    journal, kept, begun = row_of(tuple[Id, bytes, Time], found)
    if kept != source:
        raise OSError(
            errno.EINVAL, f"this is the journal of another directory, {os.fsdecode(kept)}"
        )
    return journal, begun


def _opened(path: bytes) -> int:
    """Return a descriptor of one of the files, which is made if it is missing.

    Raises OSError.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        _check_file(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(path: bytes, found: os.stat_result) -> None:
    """Check that a file is a regular one of this user, with one name.

    Raises OSError (EINVAL, EPERM).
    """
    name = os.fsdecode(os.path.basename(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, f"{name} is not a regular file")
    if found.st_uid != os.geteuid():
        raise OSError(
            errno.EPERM,
            f"{name} belongs to user {found.st_uid}, not to user {os.geteuid()}, who would keep "
            "the journal: name another file",
        )
    if found.st_nlink > 1:
        raise OSError(errno.EINVAL, f"{name} has several names (hard links)")


def _check_directory(path: bytes) -> None:
    """Check that not everybody can replace the files in a directory.

    Raises OSError (EPERM).
    """
    mode = os.stat(path).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise OSError(errno.EPERM, "all users can replace files in this directory: name another")


def _connected(path: bytes, synced: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(os.fsdecode(path), isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
    except BaseException:
        connection.close()
        raise
    return connection
