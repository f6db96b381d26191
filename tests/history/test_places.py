# SPDX-License-Identifier: GPL-2.0-or-later
"""The place of a time in a journal: nothing since then is left out, whatever the clock did."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from fusenotify.history.bounds import Bounds
from fusenotify.history.lookups import place_at
from fusenotify.history.reading import Reading
from fusenotify.history.store import Store

from .conftest import Kept, said, words

SECOND = 10**9


class Clock:
    """A clock that is set, and stands still."""

    def __init__(self, kept: Kept) -> None:
        self.now = time.time_ns()
        self._kept = kept
        self.keep()

    def keep(self) -> None:
        """Give it to the journal that is open now."""
        self._kept.journal._core.details.clock = lambda: self.now


@pytest.fixture
def clock(kept: Kept) -> Clock:
    return Clock(kept)


def since(kept: Kept, when: int) -> list[str]:
    return said(kept.since(str(place_at(written(kept), when))))


def written(kept: Kept) -> Store:
    """Return the store, when everything is in it."""
    kept.again()
    return kept.journal.store


def test_a_time_is_the_place_before_the_first_later_change(kept: Kept, clock: Clock) -> None:
    first = clock.now
    for name in (b"a", b"b", b"c"):
        kept.create(name)
        clock.now += SECOND
    for when, expected in (
        (first, ["CREATE a", "CREATE b", "CREATE c"]),
        (first + 1, ["CREATE b", "CREATE c"]),
        (first + SECOND, ["CREATE b", "CREATE c"]),
        (first + 2 * SECOND, ["CREATE c"]),
    ):
        assert [each for each in since(kept, when) if "gap" not in each] == expected


def test_a_time_after_all_changes_is_the_end(kept: Kept, clock: Clock) -> None:
    kept.create(b"a")
    store = written(kept)
    assert place_at(store, time.time_ns() + SECOND).sequence == store.last


def test_a_clock_that_is_set_back_leaves_nothing_out(kept: Kept, clock: Clock) -> None:
    first = clock.now
    kept.create(b"a")
    clock.now += 10 * SECOND
    kept.create(b"b")  # its time is later than that of the next ones
    clock.now -= 9 * SECOND
    kept.create(b"c")
    clock.now += SECOND
    kept.create(b"d")
    kept.again()
    # Each change since then is there; earlier ones in between do no harm.
    assert [each for each in since(kept, first + 2 * SECOND) if "gap" not in each] == [
        "CREATE b",
        "CREATE c",
        "CREATE d",
    ]
    batches = kept.journal.store._writer.execute("SELECT time, last, oldest FROM batches")
    ends = [last for _, last, _ in batches]
    assert 2 in ends, "times do not fall within a batch"


def test_a_time_before_the_journal_is_a_gap(kept: Kept, clock: Clock) -> None:
    kept.create(b"a")
    store = written(kept)
    before = str(place_at(store, store.begun - 1))
    gap, *rest = kept.since(before)
    assert words(gap) == "gap: expired"
    assert (gap.since, gap.time) == (0, store.begun)
    assert words(rest[0]) == "CREATE a"
    assert "gap: expired" not in since(kept, store.begun)


def test_an_empty_journal_knows_when_it_began(tmp_path: Path) -> None:
    store = Store(bytes(tmp_path / "journal"), b"/source", Bounds())
    assert Reading(store, str(place_at(store, store.begun)), b"").next() is None
    (gap,) = Reading(store, str(place_at(store, store.begun - 1)), b"").next() or []
    assert (gap.reason, gap.time) == ("expired", store.begun)
    store.close(None)


def test_a_time_from_which_the_journal_has_removed_entries_is_a_gap(
    kept: Kept, clock: Clock
) -> None:
    first = clock.now
    kept.create(b"a")
    kept.again()
    clock.keep()
    clock.now += 3600 * SECOND
    kept.create(b"b")
    kept.journal.close()
    kept.bounds = Bounds(age=1800.0)
    store = kept.store()
    store._writer.execute("DELETE FROM batches WHERE last < 3")
    store.close(None)
    kept.open()
    assert kept.journal.store.oldest == 3
    found = [words(entry) for entry in kept.since(str(place_at(kept.journal.store, first)))]
    assert found[:2] == ["gap: expired", "CREATE b"]


def test_a_journal_of_the_format_before_is_taken_over(kept: Kept, clock: Clock) -> None:
    kept.create(b"a")
    cursor = str(kept.journal.store.cursor(0))
    kept.journal.close()
    with_format_2(kept.path)
    kept.open()
    assert kept.journal.store.begun == clock.now
    assert said(kept.since(cursor))[:1] == ["CREATE a"]


def test_a_journal_of_the_format_before_may_have_no_entry(kept: Kept) -> None:
    kept.journal.close()
    with_format_2(kept.path)
    kept.open()
    kept.create(b"a")
    assert said(kept.since(str(kept.journal.store.cursor(0)))) == ["gap: stopped", "CREATE a"]


def with_format_2(path: Path) -> None:
    with sqlite3.connect(path) as before:
        before.execute("ALTER TABLE journal DROP COLUMN begun")
        before.execute("DROP TABLE directories")
        before.execute("PRAGMA user_version = 2")
    before.close()
