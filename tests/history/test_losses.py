# SPDX-License-Identifier: GPL-2.0-or-later
"""What a journal loses is said: crashes while it is opened, copies, clocks, expiry, batches."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.bits import IN_ISDIR, IN_MOVED_FROM
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.hooks import File, Hooks
from fusenotify.history import journal as journals
from fusenotify.history.bounds import Bounds
from fusenotify.history.entries import Entry, Reason
from fusenotify.history.journal import Journal
from fusenotify.history.reading import Reading
from fusenotify.history.store import Store

from .conftest import Kept, said, words


def all_of(reading: Reading, most: int = 20) -> list[str]:
    found: list[Entry] = []
    for _ in range(most):
        entries = reading.next()
        if entries is None:
            return [words(entry) for entry in found]
        found += entries
    raise AssertionError(f"it does not end: {found}")


@contextlib.contextmanager
def alone(kept: Kept) -> Iterator[Store]:
    """Yield the store in a run without a journal, whose thread would write, too."""
    kept.journal.close()
    store = kept.store()
    yield store
    store.close(None)
    kept.open()


def test_a_modification_counts_for_the_file_that_has_the_name_by_then(kept: Kept) -> None:
    one, other = kept.create(b"d", is_dir=True), kept.create(b"x", is_dir=True)
    mine, theirs = kept.create(b"f", one), kept.create(b"f", other)
    cursor = kept.cursor()
    kept.hooks.modified(File(mine, writable=True))
    kept.hooks.renamed(kept.root, b"d", kept.root, b"e", one)
    kept.hooks.renamed(kept.root, b"x", kept.root, b"d", other)
    kept.hooks.modified(File(theirs, writable=True))
    assert said(kept.since(cursor)) == [
        "MODIFY d/f",
        "MOVED_TO|ISDIR e from d",
        "MOVED_TO|ISDIR d from x",
        "MODIFY d/f",
    ]


def test_a_modification_is_not_merged_with_one_that_is_written_already(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    steps = ["while a batch is taken", "once it is written"]

    class Waiting(deque[Entry]):
        def popleft(self) -> Entry:
            entry = super().popleft()
            if len(steps) == 2 and entry.path == b"g":
                del steps[0]
                kept.hooks.modified(file)
            return entry

    append = Store.append

    def then_modify(store: Store, entries: list[Entry]) -> None:
        append(store, entries)
        if len(steps) == 1 and entries[-1].path == b"f":
            del steps[0]
            kept.hooks.modified(file)
            done.set()

    monkeypatch.setattr(Store, "append", then_modify)
    kept.journal._waiting = Waiting()
    file = File(kept.create(b"f"), writable=True)
    cursor = kept.cursor()
    kept.create(b"g")
    done.wait()
    told = said(kept.since(cursor))
    assert told[-2:] == ["MODIFY f", "MODIFY f"]


def test_a_modification_that_is_lost_is_in_the_time_of_a_gap(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(kept.create(b"f"), writable=True)
    cursor = kept.cursor()
    monkeypatch.setattr(journals, "MOST_WAITING", 0)
    kept.hooks.modified(file)
    kept.hooks.modified(file)
    assert kept.journal.lost == 2
    assert b"f" not in kept.journal._modified
    last = kept.journal._core.details.time
    assert last in [entry.time for entry in kept.since(cursor)]


def test_half_a_rename_is_kept_where_the_other_half_is_not_wanted(tmp_path: Path) -> None:
    core, root = Core(), Inode(is_dir=True)
    hooks = Hooks(core)
    directory = Inode(is_dir=True)
    hooks.created(root, b"d", directory)
    store = Store(bytes(tmp_path / "journal"), b"/source", Bounds())
    journal = Journal(core, store, mask=IN_MOVED_FROM)
    journal.watch(root)
    hooks.renamed(root, b"d", root, b"e", directory)
    assert journal.now().sequence == 1
    journal.close()
    store = Store(bytes(tmp_path / "journal"), b"/source", Bounds())
    (entry,) = store.read(0)
    assert (entry.mask, entry.path) == (IN_MOVED_FROM | IN_ISDIR, b"d")
    store.close(None)


def test_a_cursor_after_which_everything_expired_is_a_gap(kept: Kept) -> None:
    cursor = kept.cursor()
    kept.create(b"f")
    with alone(kept) as store:
        store.bounds = Bounds(age=0.0)
        store.keep_alive(time.time_ns())
        assert store.read(0) == []
        assert all_of(Reading(store, cursor, b"")) == ["gap: expired"]


def test_entries_that_are_missing_in_between_are_a_gap(kept: Kept) -> None:
    cursor = kept.cursor()
    for name in (b"a", b"b", b"c"):
        kept.create(name)
        kept.again()
    with alone(kept) as store:
        store._writer.execute("DELETE FROM batches WHERE last = 3")
        assert all_of(Reading(store, cursor, b""))[:4] == [
            "CREATE a",
            "gap: stopped",
            "gap: expired",
            "gap: stopped",
        ]


def test_a_daemon_that_dies_while_it_opens_the_journal_leaves_the_gap_to_the_next_one(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.create(b"f")
    cursor = kept.cursor()
    kept.journal.close()
    closed = time.time_ns()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_packed", lambda store, entries: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            kept.open()
    kept.open()
    (gap,) = Reading(kept.journal.store, cursor, b"").next() or []
    assert (gap.reason, gap.since < closed) == (Reason.STOPPED, True)


def test_a_gap_reaches_from_the_end_of_one_mount_to_the_beginning_of_the_next(kept: Kept) -> None:
    cursor = kept.cursor()
    before = time.time_ns()
    kept.journal.ends()
    after = time.time_ns()
    kept.journal.close()
    store = kept.store()
    opened = time.time_ns()
    store.close(store.opened)  # it was not mounted
    kept.open()
    watched = time.time_ns()
    first, second = kept.since(cursor)[:2]
    assert before <= first.since <= after
    assert first.time <= opened
    assert second.since <= first.time
    assert second.time <= watched or second.time - watched < 10**9


def test_a_clock_that_is_set_back_leaves_a_gap_from_the_earlier_to_the_later_time(
    kept: Kept,
) -> None:
    cursor = kept.cursor()
    future = time.time_ns() + 3600 * 10**9
    kept.journal._heard_until = future
    kept.journal.close()
    kept.open()
    (gap,) = Reading(kept.journal.store, cursor, b"").next() or []
    assert gap.since < time.time_ns() < future <= gap.time


def test_changes_that_could_not_be_written_at_the_end_are_a_gap(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cursor = kept.cursor()
    with monkeypatch.context() as patch:

        def fail(store: Store, entries: list[Entry]) -> None:
            raise OSError(28, "the disk is full", "/j")

        patch.setattr(Store, "append", fail)
        kept.create(b"f")
        kept.journal.close()
    assert "1 changes are not in the journal" in caplog.text
    kept.open()
    assert [words(entry) for entry in kept.since(cursor)][:1] == ["gap: crashed"]


def test_a_cursor_that_a_copy_of_the_journal_cannot_know_is_a_gap(
    kept: Kept, tmp_path: Path
) -> None:
    kept.create(b"a")
    kept.journal.close()
    shutil.copy(kept.path, tmp_path / "copy")
    kept.open()
    for name in (b"b", b"c"):
        kept.create(name)
    cursor = kept.cursor()
    kept.journal.close()
    shutil.copy(tmp_path / "copy", kept.path)
    kept.open()
    for name in (b"x", b"y", b"z"):  # more than the cursor's number
        kept.create(name)
    kept.again()
    assert all_of(Reading(kept.journal.store, cursor, b"")) == ["gap: future"]


def test_a_cursor_from_before_the_copy_goes_on_in_it(kept: Kept, tmp_path: Path) -> None:
    kept.create(b"a")
    cursor = kept.cursor()
    kept.create(b"b")
    kept.journal.close()
    shutil.copy(kept.path, tmp_path / "copy")
    kept.open()
    kept.create(b"lost")
    kept.journal.close()
    shutil.copy(tmp_path / "copy", kept.path)
    kept.open()
    assert said(kept.since(cursor)) == ["CREATE b", "gap: stopped"]


@pytest.mark.parametrize("data", [b"\0", zlib.compress(b"\xc1")], ids=["zlib", "msgpack"])
def test_entries_that_are_damaged_are_a_gap_and_reading_goes_on(kept: Kept, data: bytes) -> None:
    cursor = kept.cursor()
    kept.create(b"a")
    kept.create(b"b")
    kept.again()
    kept.create(b"c")
    with alone(kept) as store:
        store._writer.execute("UPDATE batches SET entries = ? WHERE last = 2", (data,))
        assert all_of(Reading(store, cursor, b"")) == [
            "gap: damaged",
            "gap: stopped",
            "CREATE c",
            "gap: stopped",
        ]


def test_an_impossible_number_is_a_damaged_journal(kept: Kept) -> None:
    kept.journal.close()
    with sqlite3.connect(kept.path) as file:
        file.execute(f"UPDATE runs SET last = {2**63 - 1}")
    with pytest.raises(OSError, match="is the journal damaged"):
        kept.open()
    with file:
        file.execute("UPDATE runs SET last = 0")
    file.close()
    kept.open()


@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"//a//./b/", ["CREATE|ISDIR a", "CREATE a/b"]), (b"a/../a", None), (b"a\0", None)],
    ids=["doubled slashes", "dots", "NUL"],
)
def test_a_path_is_read_as_the_kernel_reads_it(
    kept: Kept, path: bytes, expected: list[str] | None
) -> None:
    cursor = kept.cursor()
    kept.create(b"b", kept.create(b"a", is_dir=True))
    kept.again()
    if expected is None:
        with pytest.raises(ValueError, match=r"without '\.\.'"):
            Reading(kept.journal.store, cursor, path)
    else:
        assert said(kept.since(cursor, path))[:2] == expected


def test_what_is_in_the_file_but_not_noted_yet_is_not_read(kept: Kept) -> None:
    kept.create(b"a")
    with alone(kept) as store:
        # As between the end of a transaction and what follows it: a cursor after this entry
        # would be newer than the journal seems to be.
        store.last -= 1
        reading = Reading(store, str(store.cursor(0)), b"")
        assert all_of(reading) == ["CREATE a"]
        assert reading.cursor.sequence == store.last
        store.last += 1
        assert all_of(reading) == ["gap: stopped"]
