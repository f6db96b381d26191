# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes in a tree is kept in a journal, and read again from a cursor on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fusenotify.bits import IN_OPEN
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.hooks import File
from fusenotify.history import journal as journals
from fusenotify.history.bounds import CHANGES, Bounds
from fusenotify.history.cursors import Cursor, parse
from fusenotify.history.entries import Entry
from fusenotify.history.store import Store

from .conftest import Kept, said, words


def test_changes_are_read_from_a_cursor_on(kept: Kept) -> None:
    kept.create(b"before")
    cursor = kept.cursor()
    directory = kept.create(b"d", is_dir=True)
    file = kept.create(b"f", directory)
    kept.hooks.renamed(directory, b"f", kept.root, b"g", file)
    kept.hooks.unlinked(kept.root, b"g", file, 0)
    assert said(kept.since(cursor)) == [
        "CREATE|ISDIR d",
        "CREATE d/f",
        "MOVED_TO g from d/f",
        "DELETE g",
    ]


def test_entries_are_numbered_without_holes_over_all_runs(kept: Kept) -> None:
    cursor = kept.cursor()
    for number in range(3):
        kept.create(b"%d" % number)
        kept.again()
    assert [entry.sequence for entry in kept.since(cursor)] == [1, 2, 3, 4, 5, 6, 7]


def test_an_entry_says_who_and_when(kept: Kept) -> None:
    cursor = kept.cursor()
    soon = time.time_ns() + 1234  # not so old that it would be removed
    kept.journal._core.details.clock = lambda: soon
    kept.create(b"f")
    entry = kept.since(cursor)[0]
    assert (entry.pid, entry.uid, entry.gid, entry.command) == (77, 1000, 1000, b"cp")
    assert entry.time == soon


def test_modifications_of_one_batch_are_one_entry_until_something_else_happens(kept: Kept) -> None:
    file = File(kept.create(b"f"), writable=True)
    kept.again()  # which forgets the tree
    file = File(kept.create(b"f"), writable=True)
    cursor = kept.cursor()
    kept.journal._hurry.clear()
    for _ in range(5):
        kept.hooks.modified(file)
    kept.hooks.closed(file)
    kept.hooks.modified(file)
    assert said(kept.since(cursor)) == ["MODIFY f", "CLOSE_WRITE f", "MODIFY f"]


def test_opening_and_reading_are_no_changes(kept: Kept) -> None:
    file = File(kept.create(b"f"), writable=False)
    cursor = kept.cursor()
    kept.hooks.opened(file)
    kept.hooks.accessed(file)
    kept.hooks.closed(file)
    assert said(kept.since(cursor)) == []


@pytest.mark.parametrize(("mask", "asks"), [(CHANGES, 0), (CHANGES | IN_OPEN, 1)])
def test_who_only_reads_is_looked_up_only_if_that_is_kept(
    tmp_path: Path, mask: int, asks: int
) -> None:
    core = Core()
    journal = journals.Journal(core, Store(bytes(tmp_path / "j"), b"/source", Bounds()), mask=mask)
    journal.watch(Inode(is_dir=True))
    assert (core.asks_for_processes, core.asks_for_readers) == (1, asks)
    journal.close()
    assert (core.asks_for_processes, core.asks_for_readers) == (0, 0)


@pytest.mark.parametrize(
    ("under", "expected"),
    [
        (b"", ["CREATE|ISDIR a", "CREATE a/f", "MOVED_TO g from a/f", "CREATE ab"]),
        (b"a", ["CREATE|ISDIR a", "CREATE a/f", "MOVED_FROM a/f"]),
        (b"a/", ["CREATE|ISDIR a", "CREATE a/f", "MOVED_FROM a/f"]),
        (b"g", ["MOVED_TO g"]),
        (b"z", []),
    ],
    ids=["everything", "a directory", "with a slash", "a file", "nothing"],
)
def test_a_directory_has_the_events_below_it(kept: Kept, under: bytes, expected: list[str]) -> None:
    cursor = kept.cursor()
    a = kept.create(b"a", is_dir=True)
    file = kept.create(b"f", a)
    kept.hooks.renamed(a, b"f", kept.root, b"g", file)
    kept.create(b"ab")
    assert said(kept.since(cursor, under)) == expected


def test_a_directory_has_the_moves_of_those_above_it(kept: Kept) -> None:
    cursor = kept.cursor()
    a = kept.create(b"a", is_dir=True)
    kept.create(b"b", a, is_dir=True)
    kept.hooks.renamed(kept.root, b"a", kept.root, b"z", a)
    assert said(kept.since(cursor, b"a/b")) == [
        "CREATE|ISDIR a",
        "CREATE|ISDIR a/b",
        "MOVED_FROM|ISDIR a",
    ]


def test_a_time_without_a_daemon_is_a_gap_with_its_two_times(kept: Kept) -> None:
    cursor = kept.cursor()
    kept.create(b"f")
    kept.again()
    kept.create(b"g")
    created, gap, *_ = kept.since(cursor)
    assert words(gap) == "gap: stopped"
    assert created.time < gap.since < gap.time


def test_a_daemon_that_did_not_close_the_journal_is_a_gap(kept: Kept) -> None:
    cursor = kept.cursor()
    kept.create(b"f")
    kept.again()
    # As a daemon that is killed now would leave its files.
    left = kept.path.with_name("left")
    for suffix in ("", "-wal"):
        shutil.copy(f"{kept.path}{suffix}", f"{left}{suffix}")
    kept.journal.close()
    kept.path = left
    kept.open()
    assert [words(entry) for entry in kept.since(cursor)] == [
        "CREATE f",
        "gap: stopped",
        "gap: crashed",
        "gap: stopped",
    ]


@pytest.mark.parametrize(
    ("change", "reason", "expected"),
    [
        (
            lambda cursor: Cursor("0" * 16, "0" * 16, 3),
            "other journal",
            ["CREATE e", "CREATE f", "gap: stopped"],
        ),
        (lambda cursor: cursor._replace(sequence=10**9), "future", ["gap: stopped"]),
        (lambda cursor: cursor._replace(run="0" * 16), "future", []),
    ],
    ids=["of another journal", "from the future", "of a run that is not in this copy"],
)
def test_a_cursor_that_cannot_be_is_followed_by_a_gap(
    kept: Kept, change: Callable[[Cursor], Cursor], reason: str, expected: list[str]
) -> None:
    kept.create(b"e")
    wrong = change(parse(kept.cursor()))
    kept.create(b"f")
    first, *others = kept.since(str(wrong))
    assert words(first) == f"gap: {reason}"
    assert [words(entry) for entry in others] == expected


@pytest.mark.parametrize(
    "text", ["", "c:1", f"c:{'0' * 16}:{'1' * 16}:", f"c:{'A' * 16}:{'1' * 16}:1", "x"]
)
def test_an_invalid_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        parse(text)


def test_events_that_come_faster_than_they_are_written_are_a_gap(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = kept.cursor()
    goes_on = threading.Event()
    append = Store.append

    def slowly(store: Store, entries: Sequence[Entry]) -> None:
        goes_on.wait()
        append(store, entries)

    monkeypatch.setattr(Store, "append", slowly)
    monkeypatch.setattr(journals, "MOST_WAITING", 2000)
    for number in range(100):
        kept.create(b"%d" % number)
    lost = kept.journal.lost
    goes_on.set()
    told = said(kept.since(cursor))
    assert lost > 80
    assert told == [f"CREATE {number}" for number in range(100 - lost)] + ["gap: overflow"]


def test_what_was_lost_before_it_came_to_the_engine_is_a_gap(kept: Kept) -> None:
    cursor = kept.cursor()
    kept.create(b"f")
    kept.journal._core.lose()
    kept.create(b"g")
    created, gap, *others = kept.since(cursor)
    assert [words(entry) for entry in (created, gap, *others[:1])] == [
        "CREATE f",
        "gap: overflow",
        "CREATE g",
    ]
    assert (gap.since, gap.time > created.time) == (created.time, True)


def test_a_path_that_is_too_long_is_a_gap(kept: Kept) -> None:
    cursor = kept.cursor()
    parent = kept.root
    for _ in range(journals.LONGEST_PATH // 200 + 1):
        parent = kept.create(b"n" * 199, parent, is_dir=True)
    kept.create(b"after")
    *_, gap, after = said(kept.since(cursor))
    assert (gap, after) == ("gap: path", "CREATE after")


def test_changes_wait_while_the_file_cannot_be_written(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cursor = kept.cursor()
    failed = threading.Event()
    append = Store.append

    def fail_once(store: Store, entries: Sequence[Entry]) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(28, "the disk is full", "/j")
        append(store, entries)

    monkeypatch.setattr(Store, "append", fail_once)
    kept.create(b"f")
    failed.wait()
    kept.create(b"g")
    assert said(kept.since(cursor)) == ["CREATE f", "CREATE g"]
    assert [record.message for record in caplog.records] == [
        "/j: the disk is full; changes wait to be written",
        "the journal can be written again",
    ]
