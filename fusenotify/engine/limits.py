# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits and what is counted against each user.

engine.device consults this module when a device or a watch is made.  The
kernel keeps its three limits in /proc/sys/fs/inotify and the counts in
``struct user_struct``; tree watches are ours.

Invariant
    A user whose counts are all zero is not remembered.
    A tree watch is counted among the watches, too.
"""

from __future__ import annotations

from dataclasses import dataclass

# The largest limit that can be said, as in the kernel's files: INT_MAX.
MOST = 2**31 - 1
# How many bytes of paths all queues of a user may have together, beyond what each has for itself.
MOST_PATH_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Limits:
    """What one user may have.

    max_queued_events counts events per device and is fixed when the device is
    made; the others count per user and are looked up at each request.
    """

    max_queued_events: int = 16384
    max_user_instances: int = 128
    max_user_watches: int = 8192
    max_user_trees: int = 128


@dataclass(slots=True)
class UserCounts:
    """What is counted against one user: watches, tree watches, devices (instances).

    path_bytes are for the paths in queues, beyond what each has for itself.
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
        """Return what is counted against uid; a user never seen has zeros."""
        return self._counts.get(uid) or UserCounts()

    def all(self) -> dict[int, UserCounts]:
        """Return the counts of every user who has any, by uid."""
        return dict(self._counts)

    def charge(self, uid: int, *, watches: int = 0, trees: int = 0, devices: int = 0) -> None:
        """Add to a user's counts; negative numbers give back."""
        counts = self._counts.setdefault(uid, UserCounts())
        counts.watches += watches
        counts.trees += trees
        counts.devices += devices
        assert counts.watches >= counts.trees >= 0 <= counts.devices
        if not counts.watches and not counts.devices:
            del self._counts[uid]

    def take_path_bytes(self, uid: int, size: int) -> bool:
        """Let a device of a user have more bytes for paths, unless the user has too many.

        A negative size gives back.
        """
        counts = self._counts[uid]
        if counts.path_bytes + size > MOST_PATH_BYTES:
            return False
        counts.path_bytes += size
        return True
