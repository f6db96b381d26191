# SPDX-License-Identifier: GPL-2.0-or-later
"""The known inodes of a filesystem and their names.  Linux: struct inode, struct dentry.

A filesystem subclasses Inode.  engine.core changes both, and states their
invariants.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusenotify.engine.watches import Watch

# The last value of Inode.unlinked.
DEAD = 2


class Inode:
    """An object of the filesystem, as far as notification needs it.

    A filesystem subclasses it.  unlinked is True if the last name is gone, and
    DEAD if IN_DELETE_SELF was queued, too.  dentry is the name by which the
    object was used last.  It may be unlinked if no other name is left: open
    descriptors still use it.  It is None for the root, and for an object whose
    name is unknown.  others has the other known names, in the order of their
    last use; it is None if there are none, as usual.  children has the known
    names in a directory.
    """

    __slots__ = ("children", "dentry", "is_dir", "others", "unlinked", "watches")

    def __init__(self, is_dir: bool) -> None:
        self.is_dir = is_dir
        self.unlinked: int = False
        self.watches: tuple[Watch, ...] = ()
        self.dentry: Dentry | None = None
        self.others: OrderedDict[Dentry, None] | None = None
        self.children: dict[bytes, Dentry] | None = None

    def aliases(self) -> Iterator[Dentry]:
        """Return the known names, the one used last first.  Linux: i_dentry."""
        if self.dentry is not None:
            yield self.dentry
        if self.others is not None:
            yield from reversed(self.others)

    def use_alias(self, dentry: Dentry) -> None:
        """Make dentry, a known or a new name, the one that was used last."""
        used = self.dentry
        if used is dentry:
            return
        self.dentry = dentry
        if used is None or used.unlinked:
            return
        if self.others is None:
            self.others = OrderedDict()
        else:
            self.others.pop(dentry, None)
        self.others[used] = None

    def drop_alias(self, dentry: Dentry) -> None:
        """Remove dentry from the names, unless it is the only one."""
        others = self.others
        if others is None:
            return
        if dentry is self.dentry:
            self.dentry, _ = others.popitem()
        else:
            del others[dentry]
        if not others:
            self.others = None

    def childless(self) -> None:
        """Called when the last known child is gone."""

    def watched(self) -> None:
        """Note that the object has other watches, or that their masks changed."""

    def pin(self) -> None:
        """Called when a watch begins to hold the inode.  Linux: igrab()."""

    def unpin(self) -> None:
        """Called when a watch stops holding the inode.  Linux: iput()."""


class Dentry:
    """A name of an inode in a directory.  Linux: struct dentry.

    An open file keeps its dentry, which shows the new name after a rename and
    the old one after an unlink.  users counts the open files that have this
    dentry, and the unlinked dentries that hold it.  While a dentry is in use after
    its unlink, held may be the dentry of its directory, which it holds, with the
    uid of the user for whom that counts.
    """

    __slots__ = ("held", "inode", "name", "parent", "unlinked", "users")

    def __init__(self, parent: Inode, name: bytes, inode: Inode) -> None:
        self.parent = parent
        self.name = name
        self.inode = inode
        self.unlinked = False
        self.users = 0
        self.held: tuple[Dentry, int] | None = None
