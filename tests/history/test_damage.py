# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal whose file has anything at all is refused, or a gap says that changes are missing."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from fusenotify.bits import IN_CREATE, IN_ISDIR
from fusenotify.history.bounds import Bounds
from fusenotify.history.entries import Entry
from fusenotify.history.lookups import place_at, replaced
from fusenotify.history.reading import Reading
from fusenotify.history.store import Store

COLUMNS = [
    *("journal.id", "journal.source", "journal.begun"),
    *("batches.last", "batches.oldest", "batches.time", "batches.entries"),
    *("directories.path", "directories.sequence"),
    *("runs.run", "runs.id", "runs.first", "runs.last", "runs.alive", "runs.ended"),
]
# As SQL; a column of integers takes all but NULL, too.
VALUES = ["'x'", "x'00ff'", "1.5", "-1", "9223372036854775807", "'1'", "NULL"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two runs, with a batch of three directories each."""
    path = tmp_path / "journal"
    for _ in range(2):
        store = opened(path)
        numbers = range(store.last + 1, store.last + 4)
        made = IN_CREATE | IN_ISDIR
        store.append([Entry(number, time.time_ns(), made, b"d%d" % number) for number in numbers])
        store.close(time.time_ns())
    return path


def opened(path: Path) -> Store:
    return Store(bytes(path), b"/source", Bounds())


def read(store: Store) -> list[Entry]:
    reading = Reading(store, str(store.cursor(0)), b"")
    found: list[Entry] = []
    while (entries := reading.next()) is not None:
        found += entries
    return found


def use(store: Store) -> None:
    """Do everything that is done with a store; OSErrors have the name of the file."""
    uses: list[Callable[[], object]] = [
        lambda: read(store),
        lambda: Reading(store, str(store.cursor(2)), b"d1").next(),
        lambda: place_at(store, time.time_ns()),
        lambda: place_at(store, 1),
        lambda: replaced(store, [b"d1/a"]),
        lambda: store.begin(time.time_ns()),
        lambda: store.keep_alive(time.time_ns()),
        lambda: store.append([Entry(store.last + 1, time.time_ns(), IN_CREATE, b"x")]),
        lambda: store.close(time.time_ns()),
    ]
    for each in uses:
        with named(store.path):
            each()


@contextlib.contextmanager
def named(path: bytes) -> Iterator[None]:
    """Pass over an OSError with the name of a file."""
    named = path.decode()
    try:
        yield
    except OSError as error:
        named = error.filename
    assert named == path.decode()


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("value", VALUES)
def test_a_value_that_nobody_stored_is_no_surprise(path: Path, column: str, value: str) -> None:
    table, _, name = column.partition(".")
    database = sqlite3.connect(path)
    kinds = database.execute(f"SELECT * FROM {table}").description
    columns = ", ".join([kind[0] for kind in kinds])
    rows = database.execute(f"SELECT {columns} FROM {table}").fetchall()
    with database:  # a table that takes everything
        database.execute(f"DROP TABLE {table}")
        database.execute(f"CREATE TABLE {table} ({columns})")
        marks = ", ".join("?" * len(kinds))
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        database.execute(f"UPDATE {table} SET {name} = {value}")
    database.close()
    with named(bytes(path)):
        use(opened(path))


@pytest.mark.parametrize("table", ["journal", "batches", "directories", "runs"])
@pytest.mark.parametrize("statement", ["DELETE FROM", "DROP TABLE"])
def test_a_table_that_is_empty_or_gone_is_no_surprise(
    path: Path, table: str, statement: str
) -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"{statement} {table}")
    database.close()
    with named(bytes(path)):
        use(opened(path))


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [Entry(2, 5, IN_CREATE)],  # of three
        [Entry(1, 5, IN_CREATE), Entry(1, 5, IN_CREATE), Entry(3, 5, IN_CREATE)],
        [Entry(number, 1 << 63, IN_CREATE) for number in (1, 2, 3)],
        [Entry(number, 5, 1 << 32) for number in (1, 2, 3)],
        [Entry(number, 5, IN_CREATE, pid=-2) for number in (1, 2, 3)],
        [Entry(number, 5, IN_CREATE) for number in ((1 << 63) + 1, 2, 3)],
    ],
    ids=["none", "too few", "twice", "a time", "a mask", "a pid", "a number"],
)
def test_entries_that_nobody_stored_are_a_gap(path: Path, entries: list[Entry]) -> None:
    data = zlib.compress(msgspec.msgpack.encode(entries))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE batches SET entries = ? WHERE last = 3", (data,))
    database.close()
    store = opened(path)
    reasons = [entry.reason for entry in read(store)]
    assert reasons == ["damaged", "stopped", None, None, None, "stopped"]
    use(store)


def test_a_journal_that_is_mended_again_is_written_again(path: Path) -> None:
    store = opened(path)
    other = sqlite3.connect(path)
    with other:
        other.execute("UPDATE batches SET time = 'x' || time")
    with pytest.raises(OSError, match="damaged") as failed:  # which is kept, as by a journal
        store.keep_alive(time.time_ns())
    with other:
        other.execute("UPDATE batches SET time = CAST(substr(time, 2) AS INTEGER)")
    other.close()
    store.keep_alive(time.time_ns())
    store.close(time.time_ns())
    assert failed.value.filename == str(path)


def test_names_in_the_database_that_are_no_text_are_refused(path: Path) -> None:
    content = path.read_bytes()
    assert b"CREATE TABLE runs" in content
    path.write_bytes(content.replace(b"CREATE TABLE runs", b"CREATE TA\xff\xfe\xfd runs"))
    with pytest.raises(OSError, match="damaged") as caught:
        opened(path)
    assert caught.value.filename == str(path)


def test_entries_of_later_numbers_than_the_runs_are_refused(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE runs SET last = 1")
    database.close()
    with pytest.raises(OSError, match="damaged"):
        opened(path)
