# SPDX-License-Identifier: GPL-2.0-or-later
"""Cursors: places in a journal, as strings that clients keep without interpreting them."""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(r"c:([0-9a-f]{16}):([0-9a-f]{1,16})")


class Cursor(NamedTuple):
    """The place after an entry.

    journal is the id of the journal, 16 hexadecimal digits; sequence is the number of the
    entry, 0 for the place before the first one.
    """

    journal: str
    sequence: int

    def __str__(self) -> str:
        return f"c:{self.journal}:{self.sequence:x}"


def parse(text: str) -> Cursor:
    """Return the cursor for the text that its str() returned.

    Raises ValueError.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a cursor; 'fusenotify cursor' prints one")
    return Cursor(found[1], int(found[2], 16))
