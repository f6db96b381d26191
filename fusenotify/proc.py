# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether /proc can be asked about processes by their numbers.  Linux: pid_namespaces(7).

Whoever opens /proc/PID of another process asks here before; this module imports nothing of ours.
"""

from __future__ import annotations

import functools


@functools.cache
def shows_our_numbers() -> bool:
    """Return whether /proc/PID is the process that we mean by PID.  Asked once in a process.

    It is not in a pid namespace of its own under its parent's /proc, as
    ``unshare --pid --fork`` makes it, nor where there is none.
    """
    try:
        with open("/proc/self/status", "rb") as lines:
            # Our number in /proc's namespace, and in each below it down to our own.
            (numbers,) = (line for line in lines if line.startswith(b"NSpid:"))
    except (OSError, ValueError):
        return False
    return len(numbers.split()[1:]) == 1
