# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of a journal: bounded, locked, and refused where it is something else."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.bits import IN_CREATE
from fusenotify.history.bounds import Bounds
from fusenotify.history.entries import Entry
from fusenotify.history.reading import Reading
from fusenotify.history.store import Store

SOURCE = b"/source"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(bytes(path), SOURCE, Bounds(size=20_000, age=3600.0))
    yield store
    store.close(time.time_ns())


def fill(store: Store, batches: int, when: int | None = None) -> None:
    """Append batches of ten entries that do not compress well."""
    for _ in range(batches):
        at = time.time_ns() if when is None else when
        entries = []
        for number in range(store.last + 1, store.last + 11):
            name = b"%x" % hash((number, "salt"))
            entries.append(Entry(number, at, IN_CREATE, name * 3))
        store.append(entries)


def refusal(path: Path, source: bytes = SOURCE) -> OSError:
    with pytest.raises(OSError, match=r".") as caught:
        Store(bytes(path), source, Bounds())
    assert caught.value.filename == str(path)
    return caught.value


def test_the_oldest_entries_go_where_there_are_too_many_bytes(store: Store, path: Path) -> None:
    cursor = str(store.cursor(store.last))
    fill(store, 400)
    assert store.used <= 20_000
    size = path.stat().st_size
    fill(store, 400)
    assert path.stat().st_size <= 1.2 * size
    gap, *rest = Reading(store, cursor, b"").next() or []
    assert (gap.reason, rest) == ("expired", [])
    assert store.read(0)[0].sequence == store.oldest > 1000


def test_entries_go_when_they_are_too_old(store: Store) -> None:
    fill(store, 3, when=time.time_ns() - 7200 * 10**9)
    fill(store, 1)
    assert store.oldest == 31
    assert len(store.read(0)) == 10


def test_numbers_go_on_where_all_entries_are_gone(path: Path) -> None:
    store = Store(bytes(path), SOURCE, Bounds())
    fill(store, 2, when=1)
    assert store.oldest == 21
    store.close(time.time_ns())
    again = Store(bytes(path), SOURCE, Bounds())
    assert again.last == 21  # with the gap between the two runs
    again.close(time.time_ns())


def test_entries_that_expire_while_they_are_read_are_a_gap(store: Store) -> None:
    reading = Reading(store, str(store.cursor(0)), b"")
    fill(store, 2)
    assert [entry.sequence for entry in reading.next() or []] == list(range(1, 11))
    fill(store, 400)
    gap, *_ = reading.next() or []
    assert (gap.reason, gap.since > 0) == ("expired", False)
    following = reading.next() or []
    assert following[0].sequence == store.oldest
    assert gap.time <= following[0].time


def test_another_daemon_keeps_out(store: Store, path: Path) -> None:
    assert refusal(path).errno == errno.EBUSY


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a database" * 100, "not a database"), (b"SQLite format 3\0" * 300, "damaged")],
    ids=["a text", "a damaged one"],
)
def test_a_file_that_is_not_a_database_is_refused_and_stays(
    path: Path, content: bytes, words: str
) -> None:
    path.write_bytes(content)
    refused = refusal(path)
    assert (refused.errno, words in str(refused)) == (errno.EINVAL, True)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_stays(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (a)")
    other.close()
    assert "not a journal of fusenotify" in str(refusal(path))


def test_a_newer_format_is_refused(path: Path) -> None:
    Store(bytes(path), SOURCE, Bounds()).close(time.time_ns())
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 9")
    newer.close()
    assert "format 9" in str(refusal(path))


def test_the_journal_of_another_directory_is_refused(path: Path) -> None:
    Store(bytes(path), SOURCE, Bounds()).close(time.time_ns())
    assert "another directory, /source" in str(refusal(path, b"/elsewhere"))


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere" / "journal").errno == errno.ENOENT


def test_only_the_daemons_user_can_read_a_new_journal(store: Store, path: Path) -> None:
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    files = ["journal", "journal.lock", "journal-shm", "journal-wal"]
    assert modes == dict.fromkeys(files, 0o600)
