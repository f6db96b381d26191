# SPDX-License-Identifier: GPL-2.0-or-later
"""The credentials of clients, which decide what they may watch, and of those who cause events.

Every layer imports this module; it imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """A process as it was when it connected.  Linux: struct ucred, SO_PEERGROUPS.

    groups has the supplementary groups.  pid is 0 if the process cannot be seen.
    Numbers are those of our user namespace; foreign says that the process was
    in another one, for example in a container.  command is the name of its command
    (comm in proc(5)), None if that is unknown; no decision depends on it.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    foreign: bool = False
    command: bytes | None = field(default=None, compare=False)


class Actor(Protocol):
    """The thread that makes a request in the filesystem."""

    @property
    def pid(self) -> int:
        """The id of the thread in the daemon's pid namespace; 0 if it is not visible there."""

    @property
    def uid(self) -> int:
        """The user of the thread."""

    @property
    def gid(self) -> int:
        """The group of the thread."""


class Process(NamedTuple):
    """A process that caused an event: an Actor whose details were looked up.

    pid is the id of the process, 0 if it is unknown; command is the name of its command
    (comm in proc(5)), None if that is unknown.  behind says that it changed SOURCE itself,
    past the mount; then uid and gid are -1 if they are unknown.
    """

    pid: int
    uid: int
    gid: int
    command: bytes | None = None
    behind: bool = False
