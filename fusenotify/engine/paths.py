# SPDX-License-Identifier: GPL-2.0-or-later
"""The room for the long paths that tree watches bring into a device's queue.

engine.device asks here before it queues a long path.  Names have at most 255
bytes, so max_events limits their memory; a path can be as long as directories
are deep.

Invariants
    The bytes of a path count as far as they exceed the longest name.
    A device has room for MOST_BYTES of them, and so for any path that a read
        can return.  Beyond that, the devices of a user have MOST_PATH_BYTES
        (engine.limits) together, taken in pieces of MOST_BYTES and given back
        when the paths are read.
"""

from __future__ import annotations

from fusenotify.engine.limits import Users
from fusenotify.events import HEADER, MOST_BYTES

# The lengths of the longest name in a directory (NAME_MAX), and of the longest path that a read of
# records can return.
LONGEST_NAME = 255
LONGEST_PATH = MOST_BYTES - 2 * HEADER.size


class PathRoom:
    """The room that long paths take in the queue of a device, counted against uid.

    longest is the length of the longest path that a read can return.  overflowed
    says that there was no room for a path: the queue then counts as full until
    its IN_Q_OVERFLOW was read.
    """

    __slots__ = ("_longest", "_most", "_uid", "_used", "_users", "overflowed")

    def __init__(self, users: Users, uid: int, longest: int = LONGEST_PATH) -> None:
        self.overflowed = False
        self._longest = longest
        self._users = users
        self._uid = uid
        self._used = 0
        self._most = MOST_BYTES

    def take(self, path: bytes) -> bool:
        """Take room for a path longer than a name; return whether there was enough."""
        used = self._used + len(path) - LONGEST_NAME
        if len(path) > self._longest or (used > self._most and not self._grow()):
            self.overflowed = True
            return False
        self._used = used
        return True

    def give_back(self, path: bytes) -> None:
        """Give back the room of a path that was read."""
        self._used -= len(path) - LONGEST_NAME
        if self._used <= MOST_BYTES < self._most:
            self._shrink()

    def close(self) -> None:
        """Give back all room."""
        self._used = 0
        self._shrink()

    def _grow(self) -> bool:
        if not self._users.take_path_bytes(self._uid, MOST_BYTES):
            return False
        self._most += MOST_BYTES
        return True

    def _shrink(self) -> None:
        self._users.take_path_bytes(self._uid, MOST_BYTES - self._most)
        self._most = MOST_BYTES
