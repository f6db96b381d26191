# SPDX-License-Identifier: GPL-2.0-or-later
"""The room for the paths in a device's queue, which tree watches bring.

engine.device asks before it queues a path.  Names have 255 bytes at most, so
max_events bounds what they take; a path may be as long as directories are deep.

Invariants
    A device has room for as many of the longest names as its queue has
        events, and for one path that a read can give.
    Beyond it all devices of a user have MOST_PATH_BYTES (engine.limits)
        together, taken a piece at a time and given back when they are read.
"""

from __future__ import annotations

from fusenotify.engine.limits import Users
from fusenotify.events import HEADER, MOST_BYTES

# The longest name in a directory (NAME_MAX), and the longest path that a read can give.
_LONGEST_NAME = 255
_LONGEST_PATH = MOST_BYTES - 2 * HEADER.size


class PathRoom:
    """What the paths in a queue of max_events take, of a device that counts against uid.

    used are their bytes.  overflowed says that a path had no room: the queue
    counts as full until its reader was told.
    """

    __slots__ = ("_most", "_own", "_uid", "_users", "overflowed", "used")

    def __init__(self, users: Users, uid: int, max_events: int) -> None:
        self.used = 0
        self.overflowed = False
        self._users = users
        self._uid = uid
        self._own = self._most = max(_LONGEST_PATH, max_events * _LONGEST_NAME)

    def take(self, path: bytes) -> bool:
        """Take room for a path; return whether there was some."""
        used = self.used + len(path)
        if (used > self._most or len(path) > _LONGEST_PATH) and not self._grow(path):
            self.overflowed = True
            return False
        self.used = used
        return True

    def give_back(self) -> None:
        """Give back to the user what is beyond a device's own, where it is not used any more."""
        if self.used <= self._own < self._most:
            self._users.take_path_bytes(self._uid, self._own - self._most)
            self._most = self._own

    def _grow(self, path: bytes) -> bool:
        if len(path) > _LONGEST_PATH or not self._users.take_path_bytes(self._uid, MOST_BYTES):
            return False
        self._most += MOST_BYTES
        return True
