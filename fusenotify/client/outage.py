# SPDX-License-Identifier: GPL-2.0-or-later
"""How long to try again after a daemon went away.  Both kinds of Inotify use it; it does no I/O."""

from __future__ import annotations

import errno
import time

# In seconds.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0

# The errors of connecting while one daemon ends and the next one is not there yet.
_AWAY = {
    errno.ENOENT,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EPIPE,
    errno.EAGAIN,
    errno.ETIMEDOUT,
}


def is_away(error: OSError) -> bool:
    """Return whether the error means that the daemon is away and may come back."""
    return error.errno in _AWAY


class Outage:
    """The time without a daemon, which begins when this is made and lasts at most seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE

    def pause(self) -> float | None:
        """Return the seconds to wait before the next attempt; None if that was the last one."""
        left = self._end - time.monotonic()
        if not left > 0:  # true of NaN, too
            return None
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return min(pause, left)
