# SPDX-License-Identifier: GPL-2.0-or-later
"""Four ways in which programs make sure of what they write, and what must be there afterwards.

tests.fs.crash.writer runs one of them in the mount, tests.fs.crash.rounds looks
in SOURCE.  Each kind numbers its records from 1.

Invariant
    A number is yielded only after the system said that the record is safe:
    it is acknowledged, and so are all before it.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.fs.crash.records import packed, whole_record

# Longer than a page, and no multiple of it: records lie across pages.
LONGEST = 6000


class Verdict(NamedTuple):
    """Numbers of records: acknowledged and not there, there and not whole, whole without a promise.

    Where a writer promised nothing yet, a beginning of a record is nothing wrong.
    """

    lost: int = 0
    torn: int = 0
    further: int = 0


class Kind(Protocol):
    """One way of writing."""

    def write(self) -> Iterator[int]:
        """Write to the working directory until an error ends it; yields acknowledged numbers.

        Raises OSError, sqlite3.Error; the process may end by SIGBUS.
        """

    def look(self, directory: Path, acknowledged: int) -> Verdict:
        """Compare what a directory has with what was acknowledged: all up to that number."""


class Appending:
    """A log: write() with O_APPEND, fsync()."""

    def write(self) -> Iterator[int]:
        with open("log", "ab", buffering=0) as log:
            for sequence in itertools.count(1):
                _write(log.fileno(), packed(sequence, LONGEST))
                os.fsync(log.fileno())
                yield sequence

    def look(self, directory: Path, acknowledged: int) -> Verdict:
        data = _content(directory / "log")
        whole, offset = 0, 0
        while (found := whole_record(data, offset)) and found.sequence == whole + 1:
            whole, offset = found
        missing = max(acknowledged - whole, 0)
        torn = int(missing > 0 and len(data) > offset)
        return Verdict(missing - torn, torn, max(whole - acknowledged, 0))


class Replacing:
    """A file that is replaced whole: write(), fsync(), rename(), fsync() of the directory."""

    def write(self) -> Iterator[int]:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for sequence in itertools.count(1):
                with open("state.new", "wb", buffering=0) as new:
                    _write(new.fileno(), packed(sequence, 10 * LONGEST))
                    os.fsync(new.fileno())
                os.rename("state.new", "state")
                os.fsync(directory)
                yield sequence
        finally:
            os.close(directory)

    def look(self, directory: Path, acknowledged: int) -> Verdict:
        try:
            data = (directory / "state").read_bytes()
        except FileNotFoundError:
            return Verdict(lost=int(acknowledged > 0))
        found = whole_record(data)
        if found is None or found.end != len(data):
            return Verdict(torn=1)
        return Verdict(
            lost=int(found.sequence < acknowledged), further=max(found.sequence - acknowledged, 0)
        )


class Mapping:
    """A shared mapping: stores, msync(); each record in a place of its own."""

    places = 1 << 16

    def write(self) -> Iterator[int]:
        with open("mapped", "x+b") as file:
            file.truncate(self.places * LONGEST)
            mapped = mmap.mmap(file.fileno(), 0)
        with mapped:
            for sequence in range(1, self.places):
                begin = sequence * LONGEST
                record = packed(sequence, LONGEST)
                mapped[begin : begin + len(record)] = record
                first_page = begin - begin % mmap.PAGESIZE
                mapped.flush(first_page, begin + len(record) - first_page)
                yield sequence

    def look(self, directory: Path, acknowledged: int) -> Verdict:
        lost = torn = 0
        with contextlib.suppress(FileNotFoundError), open(directory / "mapped", "rb") as file:
            for sequence in range(1, acknowledged + 1):
                file.seek(sequence * LONGEST)
                place = file.read(LONGEST)
                found = whole_record(place)
                if found is None or found.sequence != sequence:
                    lost += not any(place)
                    torn += any(place)
            file.seek((acknowledged + 1) * LONGEST)
            return Verdict(lost, torn, int(whole_record(file.read(LONGEST)) is not None))
        return Verdict(lost=acknowledged)


class Database:
    """An SQLite database with a write-ahead log, each record a transaction of its own."""

    # Pages in the log before it is copied into the database: often, to be killed in it.
    pages_in_log = 40

    def write(self) -> Iterator[int]:
        with contextlib.closing(sqlite3.connect("database", isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA wal_autocheckpoint = {self.pages_in_log}")
            database.execute("CREATE TABLE records (sequence INTEGER PRIMARY KEY, record BLOB)")
            for sequence in itertools.count(1):
                record = packed(sequence, LONGEST)
                database.execute("BEGIN")
                database.execute("INSERT INTO records VALUES (?, ?)", (sequence, record))
                database.execute("COMMIT")
                yield sequence

    def look(self, directory: Path, acknowledged: int) -> Verdict:
        try:
            with contextlib.closing(sqlite3.connect(directory / "database")) as database:
                damage = database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
                rows = dict(database.execute("SELECT sequence, record FROM records"))
        except sqlite3.Error as error:
            # Without promises there may be no table yet, which is SQLITE_ERROR; nothing worse.
            return Verdict(acknowledged, int(error.sqlite_errorcode != sqlite3.SQLITE_ERROR))
        whole = {
            sequence
            for sequence, record in rows.items()
            if (found := whole_record(record)) and found.sequence == sequence
        }
        promised = set(range(1, acknowledged + 1))
        torn = len(rows) - len(whole) + damage
        return Verdict(len(promised - rows.keys()), torn, len(whole - promised))


KINDS: dict[str, Kind] = {
    "append": Appending(),
    "rename": Replacing(),
    "mmap": Mapping(),
    "sqlite": Database(),
}


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it: of a call that became two requests the second may fail."""
    while data:
        data = data[os.write(descriptor, data) :]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
