# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of the processes that make requests.  Linux: proc(5)."""

from __future__ import annotations

from contextlib import suppress

_SIGKILL = 1 << 8


def status_of(pid: int) -> dict[bytes, bytes]:
    """Return /proc/PID/status; nothing where a caller is gone, or in another pid namespace (0)."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as lines:
        return dict(line.split(b":", 1) for line in lines)
    return {}


def is_killed(pid: int) -> bool:
    """Return whether a thread that waits in a system call is to end, and only waits for that.

    The kernel makes SIGKILL of every signal that ends a process.
    """
    return bool(int(status_of(pid).get(b"SigPnd", b"0"), 16) & _SIGKILL)
