# SPDX-License-Identifier: GPL-2.0-or-later
"""Times on the command line, in zones and where clocks are changed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from fusenotify.cli.times import moment, nanoseconds
from tests.cli.command import FUSENOTIFY, environment


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00", "2026-01-31T11:00Z"),
        ("2026-07-31 12:00:30", "2026-07-31T10:00:30Z"),
        ("2026-07-31", "2026-07-30T22:00Z"),
        ("2026-07-31T12:00Z", "2026-07-31T12:00Z"),
        ("2026-07-31T12:00+05:30", "2026-07-31T06:30Z"),
        # 02:30 comes twice, at 00:30Z and 01:30Z.
        ("2026-10-25T02:30", "2026-10-25T00:30Z"),
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30Z"),
        # 02:30 is left out: the clock goes from 01:59 to 03:00, at 01:00Z.
        ("2026-03-29T02:30", "2026-03-29T00:30Z"),
        ("2026-03-29T03:00", "2026-03-29T01:00Z"),
        ("2261-12-31T23:59Z", "2261-12-31T23:59Z"),
    ],
)
def test_a_time_without_a_zone_is_local_and_the_earlier_of_two(text: str, expected: str) -> None:
    assert moment(text) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("now", timedelta()),
        ("30 s ago", timedelta(seconds=30)),
        ("90min ago", timedelta(minutes=90)),
        ("1 hour ago", timedelta(hours=1)),
        ("2 hours ago", timedelta(hours=2)),
        (" 2 Days AGO ", timedelta(days=2)),
        ("3 weeks ago", timedelta(weeks=3)),
    ],
)
def test_a_time_ago_is_counted_from_now(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    found = moment(text)
    assert before - ago <= found <= datetime.now(UTC) - ago


# At noon, the day before the clock was put forward had 24 hours and that day has 23.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", "2026-03-28T23:00:00+00:00"),
        ("yesterday", "2026-03-27T23:00:00+00:00"),
        ("08:00", "2026-03-29T06:00:00+00:00"),
        ("1 day ago", "2026-03-28T10:00:00+00:00"),
    ],
)
def test_days_are_those_of_the_calendar(text: str, expected: str) -> None:
    script = (
        "import sys, datetime as d, fusenotify.cli.times as t\n"
        "class At(d.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None): return at.astimezone(tz)\n"
        "at = d.datetime(2026, 3, 29, 10, tzinfo=d.UTC)\n"
        "t.datetime = At\n"
        "print(t.moment(sys.argv[1]).isoformat())"
    )
    done = subprocess.run(
        [FUSENOTIFY[0], "-c", script, text],
        env={**environment(), "TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = datetime.fromisoformat(done.stdout.strip())
    assert found == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "c:1", "ago", "2 fortnights ago", "2026-13-01", "25:00", "9" * 9 + " weeks ago"]
    + ["-1 h ago", "2 hours", "0001-01-01", "2026", "202601", "12"]
    + ["2262-01-01T00:00Z", "9999-12-31T23:59-12:00"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(text)


def test_times_before_1970_are_the_beginning() -> None:
    assert nanoseconds(moment("1900-01-01T00:00Z")) == 0
    assert moment("0001-01-01T00:00+14:00").astimezone(UTC).year == 1970
    assert nanoseconds(moment("1970-01-01T00:00:01.5Z")) == 1_500_000_000
