# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of a filesystem: its inodes and their names.  Linux: struct inode, struct dentry.

A filesystem subclasses Inode; engine.core says what happens to both, and keeps
the invariants that are stated there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusenotify.engine.watches import Watch

# What Inode.unlinked is in the end.
DEAD = 2


class Inode:
    """An object of the filesystem, as far as notification goes.

    A filesystem subclasses it.  unlinked says that the last name is gone, and
    as DEAD that IN_DELETE_SELF was told, too.
    dentry is the name by which the object was used last, or the last of all,
    unlinked: it is what a descriptor still goes by.  None for the root and
    the unknown.  others are the other names by which it is known, in the
    order of their last use; None where there are none, which is the common
    case.  children, of a directory, are its known names.
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
        """Return the names by which it is known, the one used last first.  Linux: i_dentry."""
        if self.dentry is not None:
            yield self.dentry
        if self.others is not None:
            yield from reversed(self.others)

    def use_alias(self, dentry: Dentry) -> None:
        """Say that dentry, known or new, is the name used last."""
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
        """Say that dentry is a name no more; the last of all stays."""
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
        """Its last known child is gone."""

    def pin(self) -> None:
        """A watch holds the inode from now on.  Linux: igrab()."""

    def unpin(self) -> None:
        """A watch let go of the inode.  Linux: iput()."""


class Dentry:
    """A name of an inode in a directory.  Linux: struct dentry.

    Open files keep theirs: after a rename it shows the new name, after an
    unlink the old one.  users counts them, and unlinked ones that hold it; held
    is what an unlinked one holds, and for which user.
    """

    __slots__ = ("held", "inode", "name", "parent", "unlinked", "users")

    def __init__(self, parent: Inode, name: bytes, inode: Inode) -> None:
        self.parent = parent
        self.name = name
        self.inode = inode
        self.unlinked = False
        self.users = 0
        self.held: tuple[Dentry, int] | None = None
