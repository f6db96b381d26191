# SPDX-License-Identifier: GPL-2.0-or-later
"""Keep the names that the engine and the kernel know as they are in SOURCE now.

behind.retelling uses it: a record is older than what was looked up since.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fusenotify.engine import core
from fusenotify.fs.behind.forgetting import Forgetting
from fusenotify.fs.behind.whereabouts import Whereabouts
from fusenotify.fs.inodes import Inode, Inodes


class State:
    """The known names.

    elsewhere stands for all directories that are not known, and elsewhere_too for the new directory
    of a move: a move from one of them to another one may keep the name.
    """

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
        self.elsewhere, self.elsewhere_too = core.Inode(is_dir=True), core.Inode(is_dir=True)

    def let_go(self, moved: core.Inode, to: core.Inode) -> None:
        """Drop the name of a moved object that is a stand-in, or that was moved elsewhere.

        The new name of a watched object becomes known, if it is below SOURCE.
        """
        dentry = moved.dentry
        stays = isinstance(moved, Inode) and to not in (self.elsewhere, self.elsewhere_too)
        if not stays and dentry is not None and not dentry.unlinked:
            self._core.unhash(dentry)
        if isinstance(moved, Inode):
            if moved.watches:
                self._whereabouts.place(moved)
            self._inodes.drop_if_unused(moved)

    def stand_in(self, parent: core.Inode, name: bytes, is_dir: bool) -> core.Inode:
        """Return a stand-in for an object that is not known; its name is in no table."""
        inode = core.Inode(is_dir)
        inode.dentry = core.Dentry(parent, name, inode)
        inode.dentry.unlinked = True
        return inode

    def restore(self, child: core.Dentry | None, told: core.Inode) -> None:
        """Restore a name that was looked up, if a record about an earlier object removed it."""
        if child is None or child.inode is told or not child.unlinked:
            return
        inode, parent = child.inode, child.parent
        if isinstance(inode, Inode) and self.is_at(parent, child.name, inode):
            self._core.instantiate(parent, child.name, inode)

    def align(self, parent: Inode, name: bytes) -> None:
        """Drop a name from the engine if another object has it now."""
        child = parent.children.get(name) if parent.children else None
        if child is None or not isinstance(child.inode, Inode):
            return
        if not self.is_at(parent, name, child.inode):
            inode = child.inode
            self._core.unhash(child)
            self._inodes.drop_if_unused(inode)

    def realign(self) -> None:
        """Put all known directories where they are now, after a loss."""
        stale: list[Inode] = []
        for inode in self._inodes.all():
            dentry = inode.dentry
            if not inode.is_dir or dentry is None:
                continue
            if dentry.unlinked or not self.is_at(dentry.parent, dentry.name, inode):
                stale.append(inode)
                inode.pin()
        for inode in stale:
            if inode.dentry is not None and not inode.dentry.unlinked:
                self.change_name(inode.dentry.parent, inode.dentry.name)
                self._core.unhash(inode.dentry)
        for inode in stale:
            self._whereabouts.place(inode)
            if inode.dentry is not None and not inode.dentry.unlinked:
                inode.unlinked = False
            inode.unpin()

    def change_name(self, parent: core.Inode, name: bytes) -> None:
        if not isinstance(parent, Inode):
            return
        self._forgetting.inode(parent)
        child = parent.children.get(name) if parent.children else None
        may_stay = child is not None and (
            child.inode.is_dir or self.is_at(parent, name, child.inode)
        )
        self._forgetting.name(parent, name, may_stay=may_stay)

    def change_at(self, directory: bytes | None, name: bytes) -> None:
        """Note that a name changed in the directory with a handle.

        The directory may be outside SOURCE.  If it comes back, the kernel still knows what it
        remembered of it.
        """
        known = self._whereabouts.known(directory)
        if known is not None:
            self.change_name(known, name)

    def now(self, parent: Inode, name: bytes) -> bytes | None:
        """Return the handle of the object that has a name now; None if there is none."""
        return self._whereabouts.handle_at(parent, name)

    def is_at(self, parent: core.Inode | None, name: bytes, inode: core.Inode) -> bool:
        if not isinstance(parent, Inode) or not isinstance(inode, Inode):
            return False
        with suppress(OSError):
            status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
            return (status.st_dev, status.st_ino) == (inode.device, inode.ino)
        return False

    def links(self, inode: core.Inode) -> int:
        """Return how many names a file has now; 0 for a directory or a stand-in."""
        if not isinstance(inode, Inode):
            return 0
        try:
            return 0 if inode.is_dir else os.fstat(inode.fd).st_nlink
        except OSError:
            return 0
