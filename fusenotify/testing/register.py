# SPDX-License-Identifier: GPL-2.0-or-later
"""The mounts and devices of a test, for its report.

testing.mounts and testing.tree enter what they make, testing.report asks for
the entries, and the pytest plugin says when a test begins.

Invariant
    Only the latest MOST_RECENT entries of a test are kept alive by being here.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol
from weakref import WeakSet

# A test's report also shows entries that the test closed or dropped, up to this number.
MOST_RECENT = 64


class Entry(Protocol):
    """A mount, or a device."""

    def begin(self) -> None:
        """Forget what earlier tests did with this."""


_living: WeakSet[Entry] = WeakSet()
_recent: deque[Entry] = deque(maxlen=MOST_RECENT)


def enter(entry: Entry) -> None:
    """Add a new mount or device."""
    _living.add(entry)
    _recent.append(entry)


def leave(entry: Entry) -> None:
    """Note that a mount or a device was closed: later tests do not report it."""
    _living.discard(entry)


def begin() -> None:
    """Note that a test begins."""
    _recent.clear()
    for entry in list(_living):
        entry.begin()


def entries() -> tuple[list[Entry], list[Entry]]:
    """Return what the test made, in order, and what earlier tests made and did not close."""
    recent = list(_recent)
    return recent, [entry for entry in _living if entry not in recent]
