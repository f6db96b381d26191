# SPDX-License-Identifier: GPL-2.0-or-later
"""What the engine and the kernel know of names, kept to what SOURCE has now.

fs.retelling uses it: a record is of a moment before, and what was looked up since is known already.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fusenotify.engine import core
from fusenotify.fs.forgetting import Forgetting
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.whereabouts import Whereabouts


class State:
    """What is known.  elsewhere stands for all directories that nobody knows."""

    def __init__(
        self,
        inodes: Inodes,
        names: core.Core,
        whereabouts: Whereabouts,
        forgetting: Forgetting,
    ) -> None:
        self._inodes = inodes
        self._core = names
        self._whereabouts = whereabouts
        self._forgetting = forgetting
        self.elsewhere = core.Inode(is_dir=True)

    def let_go(self, moved: core.Inode, to: core.Inode) -> None:
        """Keep no name of what is known for this record alone, or is where nobody knows."""
        dentry = moved.dentry
        stays = isinstance(moved, Inode) and to is not self.elsewhere
        if not stays and dentry is not None and not dentry.unlinked:
            self._core.unhash(dentry)
        if isinstance(moved, Inode):
            self._inodes.drop_if_unused(moved)

    def stand_in(self, parent: core.Inode, name: bytes, is_dir: bool) -> core.Inode:
        """Return what stands for an object that nobody knows; its name is in no table."""
        inode = core.Inode(is_dir)
        inode.dentry = core.Dentry(parent, name, inode)
        inode.dentry.unlinked = True
        return inode

    def restore(self, child: core.Dentry | None, told: core.Inode) -> None:
        """Let a name be again what was looked up, where the record was of another before that."""
        if child is None or child.inode is told or not child.unlinked:
            return
        inode, parent = child.inode, child.parent
        if isinstance(inode, Inode) and self.is_at(parent, child.name, inode):
            self._core.instantiate(parent, child.name, inode)

    def align(self, parent: Inode, name: bytes) -> None:
        """Have the engine know by a name what it is, where it knows something by it."""
        child = parent.children.get(name) if parent.children else None
        if child is None or not isinstance(child.inode, Inode):
            return
        if not self.is_at(parent, name, child.inode):
            inode = child.inode
            self._core.unhash(child)
            self._inodes.drop_if_unused(inode)

    def change_name(self, parent: core.Inode, name: bytes) -> None:
        if not isinstance(parent, Inode):
            return
        self._forgetting.inode(parent)
        self._forgetting.name(parent, name)

    def now(self, parent: Inode, name: bytes) -> bytes | None:
        """Return the handle that a name has now; None where there is no object."""
        return self._whereabouts.handle_at(parent, name)

    def is_at(self, parent: core.Inode | None, name: bytes, inode: core.Inode) -> bool:
        if not isinstance(parent, Inode) or not isinstance(inode, Inode):
            return False
        with suppress(OSError):
            status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
            return (status.st_dev, status.st_ino) == (inode.device, inode.ino)
        return False

    def links(self, inode: core.Inode) -> int:
        """Return how many names an object has now."""
        if not isinstance(inode, Inode):
            return 0
        try:
            return 0 if inode.is_dir else os.fstat(inode.fd).st_nlink
        except OSError:
            return 0
