# SPDX-License-Identifier: GPL-2.0-or-later
"""A share of the daemon's only thread, for what a user can make take long.

engine.exclusion has one for matching names and one for compiling patterns: a few
hundred patterns can be chosen so that a name takes a tenth of a second.  engine.trees
has one for judging who may hear of directories that are very deep.

Invariant
    In the long run a user takes SHARE of the thread's time and FREE each time, and BURST more
        than that at once; what took longer than expected is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.1
# In seconds.
BURST = 0.05
FREE = 50e-6


class OutOfTime(Exception):
    """There is no time for this now, or it would take too long."""


class TimeShare:
    """The share of one user.

    clock says in seconds what time it is, processor for how long this thread has run.
    """

    __slots__ = ("_began", "_clock", "_even_at", "_processor")

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._processor = processor
        # When all that was taken is made up for.
        self._even_at = 0.0
        self._began = 0.0

    def wait(self) -> float:
        """Return in how many seconds something may begin; 0 where now."""
        return max(self._even_at - BURST / SHARE - self._clock(), 0.0)

    def begin(self) -> None:
        """Something begins; wait() is the caller's affair."""
        self._began = self._processor()

    def is_used_up(self) -> bool:
        """Return whether what began has taken longer than BURST already."""
        return self._processor() - self._began > BURST

    def end(self) -> None:
        """It ended."""
        taken = self._processor() - self._began - FREE
        if taken > 0:
            self._even_at = max(self._even_at, self._clock()) + taken / SHARE
