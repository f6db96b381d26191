# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may connect to a mount's socket, and how much of it one may take.

cli.mount fills it in, server.service asks it at each connect.  What may be
watched through a connection is another question: fs.permissions answers it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusenotify.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one client may take of the daemon, beside the limits of inotify.

    max_user_connections is per user, who is neither root nor the daemon's: each
    takes a descriptor that the filesystem may need.  max_waiting_requests is
    per connection.
    """

    max_user_connections: int = 256
    max_waiting_requests: int = 256


@dataclass(frozen=True, slots=True)
class Admission:
    """Users and groups that may connect, by number; without any, all whom the socket lets in."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    @property
    def is_restricted(self) -> bool:
        """Return whether not everybody is admitted."""
        return bool(self.users or self.groups)

    def admits(self, who: Credentials) -> bool:
        """Return whether who, who is neither root nor the daemon's user, may connect."""
        if not self.is_restricted:
            return True
        return who.uid in self.users or not self.groups.isdisjoint({who.gid, *who.groups})
