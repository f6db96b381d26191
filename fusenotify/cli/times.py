# SPDX-License-Identifier: GPL-2.0-or-later
"""Times on the command line: yesterday, '2 hours ago', 2026-01-31T12:00, with a zone or without."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, time, timedelta

# What messages and help say about the form of a time.
EXAMPLES = "a time such as yesterday, '2 hours ago', 08:00 or 2026-01-31T12:00"

_AGO = re.compile(r"(\d{1,9})\s*([a-z]+)\s+ago")
_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86_400,
    "day": 86_400,
    "w": 604_800,
    "week": 604_800,
}
_DAYS = {"today": 0, "yesterday": 1}
# Servers and journals have times in 63 bits of ns since 1970.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)


def moment(text: str) -> datetime:
    """Return the time that a text means, with a zone.

    today and yesterday mean the beginning of that day, a time without a date one of today, and
    a date without a time the beginning of it.  A day in '2 days ago' has 24 hours.  What has no
    zone is local time; if there were two such times, or none because the clock was put forward,
    it is the earlier one that can be meant.  Earlier times than 1970 are 1970.

    Raises ValueError; times from 2262 on are none.
    """
    found = max(_moment(text), _FIRST)
    if found >= _LAST:
        raise ValueError(f"{text!r} is too far away")
    return found


def _moment(text: str) -> datetime:
    words = text.strip().lower()
    today = datetime.now().date()
    if words == "now":
        return datetime.now(UTC)
    if words in _DAYS:
        return _local(datetime.combine(today - timedelta(days=_DAYS[words]), time()))
    if ago := _AGO.fullmatch(words):
        seconds = _UNITS.get(ago[2]) or _UNITS.get(ago[2].removesuffix("s"))
        if seconds is not None:
            try:
                return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * seconds)
            except OverflowError:
                raise ValueError(f"{text!r} is before the year 1") from None
    if ":" in words:  # 2026 is no time of the day
        with contextlib.suppress(ValueError):
            return _local(datetime.combine(today, time.fromisoformat(text.strip())))
    return _local(datetime.fromisoformat(text.strip()))


def nanoseconds(when: datetime) -> int:
    """Return what moment() returned in ns since 1970."""
    return ((when - _FIRST) // timedelta(microseconds=1)) * 1000


def _local(when: datetime) -> datetime:
    """Return a time with a zone: its own, or the local one."""
    if when.tzinfo is not None:
        return when
    try:
        return min(when.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    except (OverflowError, OSError):
        raise ValueError(f"{when} is too far away") from None
