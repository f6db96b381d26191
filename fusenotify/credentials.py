# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asks, the identity that decides what a client may watch; and who acts.

Every layer imports this module; it imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """A process as it was when it connected.  Linux: struct ucred, SO_PEERGROUPS.

    groups are the supplementary groups; pid is 0 where it cannot be seen.
    Numbers are those of our user namespace; foreign says that the process was
    seen in another one, as in a container.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    foreign: bool = False


class Actor(Protocol):
    """Who does something in the filesystem."""

    @property
    def pid(self) -> int:
        """The thread that does it, as the daemon sees it; 0 where it does not."""

    @property
    def uid(self) -> int:
        """The user as which it is done."""
