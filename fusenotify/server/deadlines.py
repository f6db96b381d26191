# SPDX-License-Identifier: GPL-2.0-or-later
"""The deadlines of waiting requests, in trio's time."""

from __future__ import annotations

import errno
import math

import trio

# The deadline of a request that does not wait.
AT_ONCE = -math.inf


def deadline_of(timeout: float | None) -> float:
    """Return when a timeout in seconds will have passed, in trio's time; None never passes.

    Raises OSError (EINVAL).
    """
    if timeout is None:
        return math.inf
    if not timeout >= 0:  # true of NaN, too
        raise OSError(
            errno.EINVAL, f"a timeout cannot be {timeout}: without one a request waits for ever"
        )
    return trio.current_time() + timeout if timeout else AT_ONCE
