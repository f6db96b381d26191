# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asks, the identity that decides what a client may watch; and who acts.

Every layer imports this module; it imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """A process as it was when it connected.  Linux: struct ucred, SO_PEERGROUPS.

    groups are the supplementary groups; pid is 0 where it cannot be seen.
    Numbers are those of our user namespace; foreign says that the process was
    seen in another one, as in a container.  command is the name of what it ran
    (comm in proc(5)), None where that is not known; it decides nothing.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    foreign: bool = False
    command: bytes | None = field(default=None, compare=False)


class Actor(Protocol):
    """Who does something in the filesystem."""

    @property
    def pid(self) -> int:
        """The thread that does it, as the daemon sees it; 0 where it does not."""

    @property
    def uid(self) -> int:
        """The user as which it is done."""

    @property
    def gid(self) -> int:
        """The group as which it is done."""


class Process(NamedTuple):
    """A process that does something, an Actor of which no more is to be found out.

    pid is that of the process, 0 where it is not known; command is the name of what it
    runs (comm in proc(5)), None where that is not known.
    """

    pid: int
    uid: int
    gid: int
    command: bytes | None = None
