# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits, and the counts of each user to which they apply.

engine.device consults this module when a device or a watch is made.  The
kernel keeps its three limits in /proc/sys/fs/inotify and the counts in
``struct user_struct``; the limit of tree watches is our own.

Invariants
    A user whose counts are all zero is not remembered.
    A tree watch also counts as a watch.
"""

from __future__ import annotations

from dataclasses import dataclass

# The largest possible limit, as in the kernel's files: INT_MAX.
MOST = 2**31 - 1
# How many bytes of paths a user's queues may hold together, beyond those that each queue may have
# by itself.
MOST_PATH_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Limits:
    """The limits of each user.

    max_queued_events is the number of events per device, and is fixed when the
    device is made.  The others are numbers per user, and are looked up at each
    request.
    """

    max_queued_events: int = 16384
    max_user_instances: int = 128
    max_user_watches: int = 8192
    max_user_trees: int = 128


@dataclass(slots=True)
class UserCounts:
    """The counts of one user: watches, tree watches, devices (instances).

    path_bytes is the room for paths in queues, beyond the room that each queue has
    by itself.
    """

    watches: int = 0
    trees: int = 0
    devices: int = 0
    path_bytes: int = 0


class Users:
    """The counts of all users, by uid."""

    def __init__(self) -> None:
        self._counts: dict[int, UserCounts] = {}

    def counts(self, uid: int) -> UserCounts:
        """Return the counts of uid; all are zero for an unknown user."""
        return self._counts.get(uid) or UserCounts()

    def all(self) -> dict[int, UserCounts]:
        """Return the counts of all users who have any, by uid."""
        return dict(self._counts)

    def charge(self, uid: int, *, watches: int = 0, trees: int = 0, devices: int = 0) -> None:
        """Add to a user's counts, or subtract where a number is negative."""
        counts = self._counts.setdefault(uid, UserCounts())
        counts.watches += watches
        counts.trees += trees
        counts.devices += devices
        assert counts.watches >= counts.trees >= 0 <= counts.devices
        if not counts.watches and not counts.devices:
            del self._counts[uid]

    def take_path_bytes(self, uid: int, size: int) -> bool:
        """Give a device of a user size bytes more for paths; return False if the user has too many.

        A negative size gives bytes back.
        """
        counts = self._counts[uid]
        if counts.path_bytes + size > MOST_PATH_BYTES:
            return False
        counts.path_bytes += size
        return True
