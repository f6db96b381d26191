# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the pids in /proc are those of our pid namespace.  Linux: pid_namespaces(7).

Code that opens /proc/PID of another process checks this before; this module imports nothing of
ours.
"""

from __future__ import annotations

import functools


@functools.cache
def shows_our_numbers() -> bool:
    """Return whether /proc/PID is the process that we know as PID.  It is found out once.

    It is not in a new pid namespace that still has its parent's /proc, as made by
    ``unshare --pid --fork``, nor if there is no /proc.
    """
    try:
        with open("/proc/self/status", "rb") as lines:
            # Our pid in the namespace of /proc, and in each one below it down to our own.
            (numbers,) = (line for line in lines if line.startswith(b"NSpid:"))
    except (OSError, ValueError):
        return False
    return len(numbers.split()[1:]) == 1
