# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose a connection is: the process's that made it, and not its children's.

A child of fork(2) has copies of all objects, and of their sockets.  Were it to
ask, to close or to receive, the parent would miss what the child got.  So both
kinds of Link ask here first, before they take a lock, which another thread may
have had when the process was forked; and a child closes its copies at once, so
that the daemon hears of the parent's end.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol
from weakref import WeakSet


class Process:
    """The process that makes this object."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # A child in a new pid namespace may have its parent's pid.
        self._forks = _forks

    def is_this(self) -> bool:
        """Return whether it is the process that asks."""
        return self._forks == _forks and self.pid == os.getpid()


class Inherited(Protocol):
    """What belongs to one process."""

    def let_go(self) -> None:
        """Close this process's copy, which belongs to another one; take no lock."""


_forks = 0
_inherited: WeakSet[Inherited] = WeakSet()


def belongs_here(owned: Inherited) -> Process:
    """Have a child of this process let go of what is owned; return this process."""
    _inherited.add(owned)
    return Process()


def foreign(owner: Process) -> OSError:
    """Return the error for what another process made."""
    return OSError(
        errno.EBADF,
        f"it belongs to process {owner.pid}, which made it: make another one after fork()",
    )


def _after_fork() -> None:
    global _forks
    _forks += 1
    for owned in list(_inherited):
        owned.let_go()
    _inherited.clear()


os.register_at_fork(after_in_child=_after_fork)
