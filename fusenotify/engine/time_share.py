# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's share of the time of the daemon's only thread, for work that a user can make slow.

engine.exclusion has one for matching names and one for compiling patterns: a few
hundred patterns can be chosen so that a name takes a tenth of a second.  engine.trees
has one for judging whether a user may see events in very deep directories.

Invariant
    In the long run a user takes SHARE of the thread's time, and FREE more for each piece of
        work.  For a short time it may be BURST more.  After a piece of work that took too
        long, the user waits until the share allows for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.1
# In seconds.
BURST = 0.05
FREE = 50e-6


class OutOfTime(Exception):
    """There is no time for the work now, or the work would take too long."""


class TimeShare:
    """The share of one user.

    clock returns the time, and processor the processor time of this thread, both in seconds.
    """

    __slots__ = ("_began", "_clock", "_even_at", "_processor")

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._processor = processor
        # The time at which the share will have made up for all that was taken.
        self._even_at = 0.0
        self._began = 0.0

    def wait(self) -> float:
        """Return in how many seconds the user may begin a piece of work; 0 means now."""
        return max(self._even_at - BURST / SHARE - self._clock(), 0.0)

    def begin(self) -> None:
        """Begin a piece of work.  The caller has to look at wait() first."""
        self._began = self._processor()

    def is_used_up(self) -> bool:
        """Return whether the piece of work has taken longer than BURST already."""
        return self._processor() - self._began > BURST

    def end(self) -> None:
        """End the piece of work."""
        taken = self._processor() - self._began - FREE
        if taken > 0:
            self._even_at = max(self._even_at, self._clock()) + taken / SHARE
