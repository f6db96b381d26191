# SPDX-License-Identifier: GPL-2.0-or-later
"""When the changes of a merged record happened.

The kernel merges what one process does to one object by one name into one record, in the place
of the first, as long as that is unread.  So a later change, like the removal of a name, may
stand before records of others that came before it.  behind.retelling asks here when to tell it.
Linux: fs/notify/fanotify/fanotify.c fanotify_should_merge().

Invariant
    What is told of a name never contradicts what was told of it before: rather than that,
        OutOfOrder is raised, and all is lost.
"""

from __future__ import annotations

from fusenotify.engine import core
from fusenotify.fs.behind.fanotify import (
    FAN_CREATE,
    FAN_DELETE,
    FAN_ONDIR,
    FAN_RENAME,
    NAMES,
    REPLACED,
    Record,
)
from fusenotify.fs.behind.names_told import UNKNOWN, NamesTold
from fusenotify.fs.behind.pending import Pending
from fusenotify.fs.behind.state import State
from fusenotify.fs.behind.whereabouts import Whereabouts
from fusenotify.fs.inodes import Inode


class OutOfOrder(Exception):
    """A record contradicts what was told: the kernel has merged an earlier one with others."""


class Merged:
    """Finds the order; told has what was told about names."""

    def __init__(
        self,
        names: core.Core,
        whereabouts: Whereabouts,
        pending: Pending,
        state: State,
        told: NamesTold,
    ) -> None:
        self._core = names
        self._whereabouts = whereabouts
        self._pending = pending
        self._state = state
        self._told = told

    def is_early(self, parent: core.Inode, record: Record) -> bool:
        """Return whether a removal was merged into an earlier record; then it is told later."""
        if record.target is None:
            return False
        if record.mask & FAN_CREATE:
            self._whereabouts.more()
            if isinstance(parent, Inode) and self._state.now(parent, record.name) == record.target:
                return False
            if self._was_there(parent, record.name, record.target):
                record.mask &= ~FAN_CREATE  # removed and made again, and then removed or moved
        elif not record.is_dir:
            if record.mask == FAN_DELETE:
                return False
            self._whereabouts.more()
        removal = Record(record.mask & (FAN_DELETE | FAN_ONDIR), record.pid)
        removal.directory, removal.name = record.directory, record.name
        removal.target = record.target
        return self._pending.defer(removal)

    def _was_there(self, parent: core.Inode, name: bytes, handle: bytes) -> bool:
        """Return whether a name, which is gone now, was told to have a handle, as far as known."""
        before = self._told.before(parent, name)
        if before != UNKNOWN:
            return before == handle
        known = parent.children.get(name) if parent.children else None
        if known is None or known.inode is not self._whereabouts.known(handle):
            return False
        # It was made again from another name.  Otherwise it was looked up since it was made.
        return self._state.links(known.inode) > 0

    def steps(self, parent: core.Inode, record: Record) -> tuple[int, int]:
        """Return when the name was created and when it was removed: 1 first, 2 second, 0 never."""
        name, mask = record.name, record.mask
        if not mask & NAMES:
            return 0, 0
        target = record.target
        self._state.change_name(parent, name)
        # Changes that nobody hears of are not noted each time.
        before = self._told.before(parent, name) if self._core.hears(parent) else UNKNOWN
        if before not in (None, UNKNOWN, target):
            raise OutOfOrder(f"{name!r} is something else")
        there = before == target
        if mask & FAN_CREATE and mask & FAN_DELETE:
            if isinstance(parent, Inode) and self._state.now(parent, name) == target:
                # If nothing is known, two calls are likelier than three.
                return (1, 0) if before is None else (2, 1)
            return (0, 2) if there else (1, 2)
        if mask & FAN_CREATE:
            return (0 if there else 1), 0
        return 0, (0 if before is None else 2)

    def other_half(
        self, rename: Record, parent: core.Inode, known: core.Dentry | None
    ) -> Record | None:
        """Return the second record of an exchange if it was merged with an earlier one, or None.

        parent is the new directory, and known the name in it.  That something of the other kind
        has the name shows an exchange, or a directory for which no record says that it is gone.
        """
        there = self._told.before(parent, rename.new_name)
        is_dir = bool(there) and self._told.is_directory(there or UNKNOWN)
        if there == UNKNOWN and known is not None and isinstance(known.inode, Inode):
            if self._state.is_at(parent, known.name, known.inode):
                return None  # perhaps since later
            there, is_dir = self._whereabouts.handle_of(known.inode), known.inode.is_dir
        if not there or there == rename.target or not (is_dir or rename.is_dir):
            return None
        if is_dir == rename.is_dir and self._says_gone(there, rename.pid):
            return None
        half = Record(FAN_RENAME | (FAN_ONDIR if is_dir else 0), rename.pid)
        half.target = there
        half.directory, half.name = rename.new_directory, rename.new_name
        half.new_directory, half.new_name = rename.directory, rename.name
        return half

    def _says_gone(self, directory: bytes, pid: int) -> bool:
        """Return whether a process's next record is about a directory that a rename replaced."""
        following = self._pending.next_of(pid)
        is_it = following is not None and following.directory == directory
        return is_it and following is not None and following.mask == REPLACED

    def check(self, parent: core.Inode | None, name: bytes, handle: bytes | None) -> None:
        """Raise OutOfOrder if a name was told to have another handle."""
        if parent is not None and self._told.before(parent, name) not in (UNKNOWN, handle):
            raise OutOfOrder(f"{name!r} is something else, or gone")
