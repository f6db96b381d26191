# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns: however many connections a user has, others wait for one request of theirs at a time.

server.session takes a turn before what can keep the thread for milliseconds, as
resolving a long path or reading a full queue can.  Without, a user's 256
connections would all go on in one pass of trio's scheduler, and the mount's own
requests would wait for seconds.

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
    """A user's connections, and the door that one goes through at a time."""

    __slots__ = ("connections", "door")

    def __init__(self) -> None:
        self.connections = 0
        self.door = trio.Lock()


class Turns:
    """The turns of a mount's users.  Root and the daemon's user go when they like."""

    def __init__(self) -> None:
        self._users: dict[int, _User] = {}

    @contextmanager
    def connected(self, who: Credentials) -> Iterator[None]:
        """Return a block in which who has a connection."""
        user = self._users.setdefault(who.uid, _User())
        user.connections += 1
        try:
            yield
        finally:
            user.connections -= 1
            if not user.connections:
                del self._users[who.uid]

    async def take(self, who: Credentials) -> None:
        """Let others go on, and come back when it is the turn of this connection of who's."""
        user = None if is_privileged(who) else self._users.get(who.uid)
        if user is None:
            await trio.lowlevel.checkpoint()
            return
        async with user.door:  # who comes out of it lets the next one in with the next pass
            pass
