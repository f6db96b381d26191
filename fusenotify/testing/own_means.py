# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a mount is watched by other means than the test's devices, for a report.

Other means are the kernel's inotify, in any process, and clients of the daemon that
the test made itself.  A watcher that was closed before the report is not found.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fusenotify import mountinfo

if TYPE_CHECKING:
    from fusenotify.client import Client


def is_watched_natively(mountpoint: str) -> bool:
    """Return whether a process has a watch of the kernel's inotify in a mount.

    The mount itself is not asked.  Only processes that this one may look into count.
    """
    mount = mountinfo.mount_of(os.fsencode(mountpoint))
    if mount is None:
        return False
    major, minor = map(int, mount.device.split(":"))
    wanted = f" sdev:{major << 20 | minor:x} "
    return any(wanted in line for line in _inotify_lines())


def watching_devices(client: Client) -> int:
    """Return how many devices of a daemon's clients have watches."""
    status = client.status()
    return sum(device.watches > 0 for each in status.clients for device in each.devices)


def _inotify_lines() -> Iterator[str]:
    """Yield what fdinfo says of each watch of the kernel's inotify.  Linux: proc(5)."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # ended, or another user's
            for number in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{process}/fd/{number}") == "anon_inode:inotify":
                        with open(f"/proc/{process}/fdinfo/{number}") as lines:
                            yield from lines
