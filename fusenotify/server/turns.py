# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns: in each pass of the scheduler, only one of a user's connections is served.

server.session takes a turn before work that can keep the thread busy for
milliseconds, such as resolving a long path or reading a full queue.  Without
turns, all of a user's 256 connections could be served in a single pass of trio's
scheduler, and the mount's own requests would wait for seconds.

Invariant
    A user without a connection is not remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fusenotify.credentials import Credentials
from fusenotify.server.peer import is_privileged


class _User:
    """The number of a user's connections, and a lock that only one of them can take at a time."""

    __slots__ = ("connections", "door")

    def __init__(self) -> None:
        self.connections = 0
        self.door = trio.Lock()


class Turns:
    """The turns of a mount's users.  Root and the daemon's user need no turn."""

    def __init__(self) -> None:
        self._users: dict[int, _User] = {}

    @contextmanager
    def connected(self, who: Credentials) -> Iterator[None]:
        """Return a context manager in which one more connection of the user counts."""
        user = self._users.setdefault(who.uid, _User())
        user.connections += 1
        try:
            yield
        finally:
            user.connections -= 1
            if not user.connections:
                del self._users[who.uid]

    async def take(self, who: Credentials) -> None:
        """Let other tasks run, and return when it is the turn of this connection."""
        user = None if is_privileged(who) else self._users.get(who.uid)
        if user is None:
            await trio.lowlevel.checkpoint()
            return
        async with user.door:  # after its release, the next task gets the lock in the next pass
            pass
