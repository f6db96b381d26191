# SPDX-License-Identifier: GPL-2.0-or-later
"""What work costs, counted in calls: the same on each machine, however busy it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Calls:
    """How many calls of functions, in Python or in C, this thread made in a block."""

    number = 0

    def _count(self, _: object, event: str, __: object) -> None:
        self.number += event in ("call", "c_call")


@contextmanager
def counted_calls() -> Iterator[Calls]:
    """Count the calls that this thread makes while the block runs."""
    calls = Calls()
    before = sys.getprofile()
    sys.setprofile(calls._count)
    try:
        yield calls
    finally:
        sys.setprofile(before)
