# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection belongs to the process that made it, not to the children of that process.

A child of fork(2) has copies of all objects and of their sockets.  If it sent
requests, received or closed the connection, the parent would lose answers.  So
both kinds of Link check here first, before they take a lock: another thread may
have held the lock when the process was forked.  A child closes its copies at
once; otherwise the daemon would not notice the end of the parent.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol
from weakref import WeakSet


class Process:
    """The process that made this object."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # A child in a new pid namespace may have its parent's pid.
        self._forks = _forks

    def is_this(self) -> bool:
        """Return whether it is the current process."""
        return self._forks == _forks and self.pid == os.getpid()


class Inherited(Protocol):
    """An object that belongs to one process."""

    def let_go(self) -> None:
        """Close the copy that a forked process has of this object; take no lock."""


_forks = 0
_inherited: WeakSet[Inherited] = WeakSet()


def belongs_here(owned: Inherited) -> Process:
    """Have children of this process call owned.let_go() when they are forked.

    Returns this process.
    """
    _inherited.add(owned)
    return Process()


def foreign(owner: Process) -> OSError:
    """Return the error for using an object that another process made."""
    return OSError(
        errno.EBADF,
        f"it belongs to process {owner.pid}, which made it: make a new one after fork()",
    )


def _after_fork() -> None:
    global _forks
    _forks += 1
    for owned in list(_inherited):
        owned.let_go()
    _inherited.clear()


os.register_at_fork(after_in_child=_after_fork)
