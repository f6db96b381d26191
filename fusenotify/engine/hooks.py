# SPDX-License-Identifier: GPL-2.0-or-later
"""The hooks: one function per VFS operation, with the kernel's order of events.

Linux: include/linux/fsnotify.h.  fs.operations calls a hook after its syscall
succeeded and before it answers the program; this module keeps the core's
names up to date and queues the events.

Invariants
    A failed call notifies nothing.
    If a directory and an object in it are both watched, the directory's watch
        gets an event first, whichever watch was added first.
    IN_DELETE_SELF is queued when a name is gone and nothing is left that could
        use it: no other name of the object, no open description that was opened
        by that name and, for a directory, no name that was removed from it but
        is still in use.  Of such names at most MOST_NAMES_HELD are remembered,
        shared among the users who removed them; a directory does not wait for
        others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from fusenotify.bits import (
    IN_ACCESS,
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_OPEN,
)
from fusenotify.credentials import Actor
from fusenotify.engine.core import Core, Dentry, Inode
from fusenotify.engine.shares import Shares

# Each keeps the name of its directory, and so on upwards: about half a KiB.
MOST_NAMES_HELD = 100_000


class File:
    """An open description.  Linux: struct file.

    dentry is the name by which it was opened (None for the root); writable
    decides between IN_CLOSE_WRITE and IN_CLOSE_NOWRITE.
    """

    __slots__ = ("dentry", "inode", "writable")

    def __init__(self, inode: Inode, writable: bool) -> None:
        self.inode = inode
        self.dentry = inode.dentry
        self.writable = writable


class Hooks:
    """The functions by which a filesystem reports operations to the engine."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._names_held = Shares(MOST_NAMES_HELD)
        self._tree_roots = core.trees.roots
        self._trees_above = core.trees.known

    def by(self, actor: Actor | None) -> Self:
        """Set who did the operation that is reported next: ``hooks.by(ctx).created(...)``."""
        self.core.actor = actor
        return self

    # Names.

    def created(self, parent: Inode, name: bytes, inode: Inode) -> Dentry:
        """vfs_create(), vfs_mknod(), vfs_symlink(), vfs_mkdir()."""
        dentry = self.core.instantiate(parent, name, inode)
        self.core.queue_parent_event(dentry, IN_CREATE | directory_bit(inode))
        return dentry

    def made_and_gone(self, parent: Inode, name: bytes, is_dir: bool) -> None:
        """Tell a creation whose object was removed already, behind the filesystem."""
        self.happened_to_name(parent, name, IN_CREATE | (IN_ISDIR if is_dir else 0))

    def linked(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """vfs_link(): inode got a further name."""
        used = inode.dentry
        dentry = self.core.instantiate(parent, name, inode)
        if used is not None and not used.unlinked:
            inode.use_alias(used)  # the old name still counts as the one used last
        inode.unlinked = False
        self.core.queue_event(inode, IN_ATTRIB)
        self.core.queue_parent_event(dentry, IN_CREATE)

    def unlinked(self, parent: Inode, name: bytes, inode: Inode, links: int) -> None:
        """vfs_unlink(): name is gone, and inode has links names left."""
        dentry = self.core.instantiate(parent, name, inode)
        self.core.unhash(dentry)
        self.core.queue_event(inode, IN_ATTRIB)
        self._name_gone(dentry, links)
        self.core.queue_parent_event(dentry, IN_DELETE)

    def removed_directory(self, parent: Inode, name: bytes, inode: Inode) -> None:
        """vfs_rmdir()."""
        dentry = self.core.instantiate(parent, name, inode)
        self.core.unhash(dentry)
        self._name_gone(dentry, links=0)
        self.core.queue_parent_event(dentry, IN_DELETE | IN_ISDIR)

    def renamed(
        self,
        old_parent: Inode,
        old_name: bytes,
        new_parent: Inode,
        new_name: bytes,
        inode: Inode,
        replaced: Inode | None = None,
        replaced_links: int = 0,
    ) -> None:
        """vfs_rename(): inode moved, over replaced, which has replaced_links names left."""
        core = self.core
        cookie = core.next_cookie()
        isdir = directory_bit(inode)
        dentry = core.instantiate(old_parent, old_name, inode)
        trees = self._trees_of(inode)
        core.replaces = replaced is not None
        core.queue_event(old_parent, IN_MOVED_FROM | isdir, cookie, old_name)
        core.queue_event(new_parent, IN_MOVED_TO | isdir, cookie, new_name)
        core.replaces = False
        target = None if replaced is None else core.instantiate(new_parent, new_name, replaced)
        core.move(dentry, new_parent, new_name)
        if replaced is not None:
            core.queue_event(replaced, IN_ATTRIB | directory_bit(replaced))
        core.queue_event(inode, IN_MOVE_SELF, trees=trees)
        if target is not None:
            self._name_gone(target, replaced_links)

    def exchanged(
        self,
        parent: Inode,
        name: bytes,
        inode: Inode,
        other_parent: Inode,
        other_name: bytes,
        other: Inode,
    ) -> None:
        """vfs_rename(RENAME_EXCHANGE): two objects swapped their names."""
        core = self.core
        dentry = core.instantiate(parent, name, inode)
        other_dentry = core.instantiate(other_parent, other_name, other)
        trees, other_trees = self._trees_of(inode), self._trees_of(other)
        core.exchange(dentry, other_dentry)
        core.exchanges = True
        for source, source_name, target, target_name, moved, trees_before in (
            (parent, name, other_parent, other_name, inode, trees),
            (other_parent, other_name, parent, name, other, other_trees),
        ):
            cookie = core.next_cookie()
            isdir = directory_bit(moved)
            core.queue_event(source, IN_MOVED_FROM | isdir, cookie, source_name)
            core.queue_event(target, IN_MOVED_TO | isdir, cookie, target_name)
            core.queue_event(moved, IN_MOVE_SELF, trees=trees_before)
        core.exchanges = False

    # Open files and directories.

    def opened(self, file: File) -> None:
        """do_dentry_open()."""
        if file.dentry is not None:
            file.dentry.users += 1
        self._event(file.inode, file.dentry, IN_OPEN, is_open=True)

    def is_heard(self, file: File) -> bool:
        """Return whether a watch would now get the events of operations on file."""
        dentry = file.dentry
        return bool(file.inode.watches) or (dentry is not None and self.core.hears(dentry.parent))

    def accessed(self, file: File) -> None:
        """vfs_read() of at least one byte; iterate_dir(), even if it returned nothing."""
        self._event(file.inode, file.dentry, IN_ACCESS, is_open=True)

    def modified(self, file: File) -> None:
        """vfs_write() of at least one byte; vfs_fallocate()."""
        self._event(file.inode, file.dentry, IN_MODIFY, is_open=True)

    def truncated_by_open(self, file: File, set_id_bits_lost: bool) -> None:
        """handle_truncate(): open(2) with O_TRUNC, reported after IN_OPEN."""
        mask = IN_MODIFY | IN_ATTRIB if set_id_bits_lost else IN_MODIFY
        self._event(file.inode, file.dentry, mask)

    def closed(self, file: File) -> None:
        """__fput(): the last descriptor of an open description is gone."""
        mask = IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE
        self._event(file.inode, file.dentry, mask, is_open=True)
        if file.dentry is not None:
            self._put(file.dentry)

    # Attributes.

    def attributes_changed(
        self,
        inode: Inode,
        dentry: Dentry | None,
        *,
        atime: bool = False,
        mtime: bool = False,
        size: bool = False,
        owner_or_mode: bool = False,
    ) -> None:
        """notify_change(): one event for all the changes.

        dentry is the name by which the inode was reached.
        """
        mask = attribute_mask(atime=atime, mtime=mtime, size=size, owner_or_mode=owner_or_mode)
        if owner_or_mode and inode.is_dir:
            self.core.trees.permissions_changed()
        if mask:
            self._event(inode, dentry, mask)

    def xattr_changed(self, inode: Inode) -> None:
        """vfs_setxattr(), vfs_removexattr(), vfs_set_acl()."""
        if inode.is_dir:
            self.core.trees.permissions_changed()
        self._event(inode, inode.dentry, IN_ATTRIB)

    # Changes behind the filesystem, which its requests did not make.

    def happened(self, inode: Inode, dentry: Dentry | None, mask: int) -> None:
        """Tell one event about an object, under a name; mask says what happened."""
        if mask & IN_ATTRIB and inode.is_dir:
            self.core.trees.permissions_changed()
        self._event(inode, dentry, mask)

    def happened_to_name(self, parent: Inode, name: bytes, mask: int) -> None:
        """Tell one event about a name whose object, or which itself, is not known."""
        self.core.queue_event(parent, mask, 0, name)

    def vanished(self, inode: Inode) -> None:
        """Tell that an object lost its last name, at an unknown place."""
        dentry = inode.dentry
        if dentry is None or inode.unlinked:
            return
        if not dentry.unlinked:
            self.core.unhash(dentry)
        self.core.queue_event(inode, IN_ATTRIB)
        self._name_gone(dentry, links=0)

    def lost(self) -> None:
        """Tell all queues that events were lost."""
        self.core.lose()

    # The end.

    def unmounted(self, inodes: Iterable[Inode]) -> None:
        """generic_shutdown_super()."""
        self.core.unmount(inodes)

    def _event(self, inode: Inode, dentry: Dentry | None, mask: int, is_open: bool = False) -> None:
        """Pass an event to the directory's watches, then to the object's.

        is_open says that the operation used an open description.  Linux:
        fsnotify_parent(), fsnotify_file().
        """
        in_watched_directory = dentry is not None and (
            dentry.parent.watches
            # If the way up is not remembered, queue_event() will find it.
            or (self._tree_roots and self._trees_above.get(dentry.parent, True))
        )
        if not in_watched_directory and not inode.watches:
            return
        mask |= directory_bit(inode)
        unlinked = is_open and dentry is not None and dentry.unlinked
        if dentry is not None and in_watched_directory:
            self.core.queue_parent_event(dentry, mask, unlinked=unlinked)
        self.core.queue_event(inode, mask, unlinked=unlinked)

    def _trees_of(self, moved: Inode) -> tuple[Inode, ...]:
        """Return the watched directories above a directory that is about to move.

        Only the tree watches of these get its IN_MOVE_SELF.
        """
        if not self._tree_roots or not moved.is_dir:
            return ()
        return tuple([root for root, _ in self.core.trees.above(moved)])

    def _name_gone(self, dentry: Dentry, links: int) -> None:
        """Handle the end of an unhashed name; its inode has so many links left.

        Linux: d_delete(), dput().
        """
        if not links:
            dentry.inode.unlinked = True
        if not dentry.users:
            self._killed(dentry)
            return
        above, uid = dentry.parent.dentry, -1 if self.core.actor is None else self.core.actor.uid
        if above is not None and self._names_held.may_take(uid):
            self._names_held.take(uid)
            above.users += 1
            dentry.held = above, uid

    def _put(self, dentry: Dentry) -> None:
        """Drop one use of a name, and the uses of names above that this ends.  Linux: dput()."""
        while True:
            dentry.users -= 1
            if dentry.users or not dentry.unlinked:
                return
            self._killed(dentry)
            held, dentry.held = dentry.held, None  # the object may be opened again without a name
            if held is None:
                return
            dentry, uid = held
            self._names_held.give_back(uid)

    def _killed(self, dentry: Dentry) -> None:
        """Linux: dentry_unlink_inode()."""
        inode = dentry.inode
        if inode.unlinked:
            self.core.queue_event(inode, IN_DELETE_SELF)
            self.core.inode_is_dead(inode)


def directory_bit(inode: Inode) -> int:
    """Return IN_ISDIR for a directory, otherwise 0."""
    return IN_ISDIR if inode.is_dir else 0


def attribute_mask(*, atime: bool, mtime: bool, size: bool, owner_or_mode: bool) -> int:
    """Return the mask of the event for a change of these attributes.  Linux: fsnotify_change()."""
    mask = IN_ATTRIB if owner_or_mode or (atime and mtime) else 0
    if size or (mtime and not atime):
        mask |= IN_MODIFY
    if atime and not mtime:
        mask |= IN_ACCESS
    return mask
