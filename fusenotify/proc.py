# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the pids in /proc are those of our pid namespace, and when processes began: proc(5).

Code that opens /proc/PID of another process checks this before; this module imports nothing of
ours.
"""

from __future__ import annotations

import functools
import os
import time


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


def started(pid: int) -> int:
    """Return about when a process was started, in ns since 1970, and not later; 0 if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as line:
            # The name of the command, which is in brackets, may have any bytes.
            ticks = int(line.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - (ticks - 1) / os.sysconf("SC_CLK_TCK")
    return time.time_ns() - int(ago * 1e9)
