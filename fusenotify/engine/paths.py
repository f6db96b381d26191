# SPDX-License-Identifier: GPL-2.0-or-later
"""The room for long paths in a device's queue, which tree watches bring.

engine.device asks before it queues one.  Names have 255 bytes at most, so
max_events bounds what they take; a path may be as long as directories are deep.

Invariants
    What counts are the bytes of each path beyond those of the longest name.
    A device has room for MOST_BYTES of them, so for any path that a read can
        give.  Beyond it all devices of a user have MOST_PATH_BYTES
        (engine.limits) together, taken a piece at a time and given back when
        they are read.
"""

from __future__ import annotations

from fusenotify.engine.limits import Users
from fusenotify.events import HEADER, MOST_BYTES

# The longest name in a directory (NAME_MAX), and the longest path that a read of records can give.
LONGEST_NAME = 255
LONGEST_PATH = MOST_BYTES - 2 * HEADER.size


class PathRoom:
    """What the long paths in the queue of a device take, which counts against uid.

    longest is the most bytes of a path that a read can give.  overflowed says
    that one had no room: the queue counts as full until its reader was told.
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
        """Take room for a path longer than a name; return whether there was some."""
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
        """Give back all."""
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
