# SPDX-License-Identifier: GPL-2.0-or-later
"""The users who may connect to a mount's socket, and how much of the daemon they may take.

cli.mount fills them in, server.service checks them at each connection.  What a client
may watch is decided elsewhere, by fs.permissions.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusenotify.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits for clients, besides those of inotify.

    max_user_connections is for each user other than root and the daemon's user; a
    connection takes a descriptor that the filesystem may need.  max_waiting_requests is
    per connection.
    """

    max_user_connections: int = 256
    max_waiting_requests: int = 256


@dataclass(frozen=True, slots=True)
class Admission:
    """Users and groups that may connect, by number; if empty, all whom the socket lets in."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    @property
    def is_restricted(self) -> bool:
        """Whether only some users or groups may connect."""
        return bool(self.users or self.groups)

    def admits(self, who: Credentials) -> bool:
        """Return whether a user other than root and the daemon's user may connect."""
        if not self.is_restricted:
            return True
        return who.uid in self.users or not self.groups.isdisjoint({who.gid, *who.groups})
