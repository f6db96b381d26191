# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of the processes that make requests.  Linux: proc(5)."""

from __future__ import annotations

import os
import time
from contextlib import suppress

_SIGKILL = 1 << 8
# For how long, in seconds, and of how many threads it is remembered whose they are.
_REMEMBERED = 1.0
_MOST_THREADS = 4096


def status_of(pid: int) -> dict[bytes, bytes]:
    """Return /proc/PID/status; nothing where a caller is gone, or in another pid namespace (0)."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as lines:
        return dict(line.split(b":", 1) for line in lines)
    return {}


def is_capable(pid: int, capability: int, status: os.stat_result) -> bool:
    """Return whether a thread has a capability about an object.

    That is in its user namespace, which must have the object's owner and group in it.
    Linux: capable_wrt_inode_uidgid().
    """
    effective = int(status_of(pid).get(b"CapEff", b"0"), 16)
    return bool(
        effective >> capability & 1
        and _is_mapped(f"/proc/{pid}/uid_map", status.st_uid)
        and _is_mapped(f"/proc/{pid}/gid_map", status.st_gid)
    )


def _is_mapped(table: str, number: int) -> bool:
    """Return whether a user or group of ours is one in the user namespace of a table."""
    with suppress(OSError), open(table, "rb") as lines:
        for line in lines:
            _, begin, length = map(int, line.split())
            if begin <= number < begin + length:
                return True
    return False


class Threads:
    """Which process a thread is of, remembered for a second: a thread makes many requests."""

    def __init__(self) -> None:
        self._processes: dict[int, int] = {}
        self._until = 0.0

    def process_of(self, thread: int) -> int:
        """Return the id of a thread's process; its own where it is gone or unseen (0)."""
        now = time.monotonic()
        if now >= self._until or len(self._processes) >= _MOST_THREADS:
            self._processes.clear()
            self._until = now + _REMEMBERED
        process = self._processes.get(thread)
        if process is None:
            process = int(status_of(thread).get(b"Tgid", thread))
            self._processes[thread] = process
        return process


def is_killed(pid: int) -> bool:
    """Return whether a thread that waits in a system call is to end, and only waits for that.

    The kernel makes SIGKILL of every signal that ends a process.
    """
    return bool(int(status_of(pid).get(b"SigPnd", b"0"), 16) & _SIGKILL)
