# SPDX-License-Identifier: GPL-2.0-or-later
"""Cursors: places in a journal, as strings that clients keep without interpreting them."""

from __future__ import annotations

import re
from typing import NamedTuple

# The run of the place before everything that a journal knows, whose number is 0.
BEFORE = "0" * 16

# How much of what is not a cursor is shown.
_MOST_SHOWN = 100
_FORM = re.compile(r"c:([0-9a-f]{16}):([0-9a-f]{16}):([0-9a-f]{1,15})")


class Cursor(NamedTuple):
    """The place after an entry.

    journal is the id of the journal, run that of the daemon's run in which the entry was written,
    16 hexadecimal digits each; sequence is the number of the entry, 0 for the place before the
    first one.  The run tells entries apart that have one number in two copies of a journal.
    """

    journal: str
    run: str
    sequence: int

    def __str__(self) -> str:
        return f"c:{self.journal}:{self.run}:{self.sequence:x}"


def parse(text: str) -> Cursor:
    """Return the cursor for the text that its str() returned.

    Raises ValueError.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
        raise ValueError(f"{shown!r} is not a cursor; 'fusenotify cursor' prints one")
    return Cursor(found[1], found[2], int(found[3], 16))
