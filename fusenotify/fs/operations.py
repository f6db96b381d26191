# SPDX-License-Identifier: GPL-2.0-or-later
"""FUSE requests about names and the filesystem, which complete the set of requests.

pyfuse3 calls these from fs.mount; each request is carried out on SOURCE, then
reported to engine.hooks.  fs.file_requests has the requests about open files,
fs.attribute_requests those about attributes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError, RequestContext

from fusenotify.engine.hooks import Hooks
from fusenotify.fs.attribute_requests import AttributeRequests
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.ownership import AsUser
from fusenotify.fs.requests import answered, answered_when_possible, unanswered
from fusenotify.fs.set_id import new_mode
from fusenotify.fs.syscalls import renameat2
from fusenotify.view import View

# One request can forget up to 65,000 objects; other tasks run after so many.
_FORGOTTEN_AT_A_TIME = 2000
# pyfuse3 has no name for it.
_RENAME_WHITEOUT = 1 << 2


class Operations(AttributeRequests):
    """A passthrough of the tree that inodes holds.

    socket is that of AttributeRequests, view that of Requests, exact_access
    that of FileRequests.
    """

    def __init__(
        self,
        inodes: Inodes,
        hooks: Hooks,
        *,
        socket: bytes,
        view: View,
        exact_access: bool = False,
    ) -> None:
        super().__init__(inodes, hooks, socket=socket, view=view, exact_access=exact_access)
        # The answer for absent names is cheaper than an error; the kernel turns it into ENOENT.
        self._absent = EntryAttributes()
        self._absent.st_ino = pyfuse3.InodeT(0)
        self._absent.entry_timeout = view.absent_timeout
        # Called with each missing name that the kernel may remember.
        self.on_absent: Callable[[Inode, bytes], None] | None = None

    def remember_less(self, view: View) -> None:
        """Let the kernel remember names and attributes as long as a view says, from now on."""
        self._view = view
        self._absent.entry_timeout = view.absent_timeout

    # Lookups.

    @answered
    def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """LOOKUP: path_lookup()."""
        parent = self.known[parent_inode]
        try:
            found, status = self.inodes.lookup(parent, name)
        except FileNotFoundError:
            if self.on_absent is not None:
                self.on_absent(parent, name)
            return self._absent
        if status.st_nlink > 1 and not found.is_dir:
            self.names.looked_up(found, ctx.pid)
        elif self.names.waiting:
            self.names.settled(ctx.pid)
        return self.entry(found, status)

    @unanswered
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """FORGET, BATCH_FORGET: iput() in the kernel."""
        for count, (number, lookups) in enumerate(inode_list, 1):
            self.inodes.give_back(number, lookups)
            if not count % _FORGOTTEN_AT_A_TIME:
                await trio.lowlevel.checkpoint()
        if self.inodes.unused.waiting:
            self.inodes.unused.turn()

    @answered
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """READLINK: vfs_readlink()."""
        return os.readlink(b"", dir_fd=self.known[inode].fd)

    # Making, moving and removing names.

    @answered_when_possible
    def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKNOD: vfs_mknod()."""
        parent = self.known[parent_inode]
        if self.overlays:
            self.layers.need(parent)
        mode = new_mode(mode, parent.fd, self._view, ctx)
        with AsUser.calling(ctx):
            os.mknod(name, mode, rdev, dir_fd=parent.fd)
        return self._made(parent, name, ctx)

    @answered_when_possible
    def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKDIR: vfs_mkdir()."""
        parent = self.known[parent_inode]
        if self.overlays:
            self.layers.need(parent)
        with AsUser.calling(ctx):
            os.mkdir(name, mode, dir_fd=parent.fd)
        return self._made(parent, name, ctx, is_dir=True)

    @answered_when_possible
    def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """SYMLINK: vfs_symlink()."""
        parent = self.known[parent_inode]
        if self.overlays:
            self.layers.need(parent)
        with AsUser.calling(ctx):
            os.symlink(target, name, dir_fd=parent.fd)
        return self._made(parent, name, ctx)

    @answered_when_possible
    def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """LINK: vfs_link()."""
        linked, parent = self.known[inode], self.known[new_parent_inode]
        if not self._is_plain:
            before = os.fstat(linked.fd)
            if before.st_mode & self._view.hidden_set_id(before.st_uid, before.st_gid):
                raise FUSEError(errno.EPERM)
        if self.overlays:
            self.layers.need(linked, parent)
        first = linked.dentry
        act = partial(os.link, linked.path, new_name, dst_dir_fd=parent.fd, follow_symlinks=True)
        self.by_owner(ctx, act, linked)
        self.hooks.by(ctx).linked(linked, parent, new_name)
        status = os.fstat(linked.fd)
        self.names.linked(linked, first, status.st_nlink, ctx.pid)
        return self.entry(linked, status)

    @answered_when_possible
    def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """UNLINK: vfs_unlink()."""
        parent = self.known[parent_inode]
        victim, status = self.inodes.judged(parent, name)
        self.names.settled(ctx.pid)
        if self.overlays:
            self.layers.need(parent)
            self._need_to_lose(victim, status.st_nlink)
        self._remove(os.unlink, parent, name, victim, ctx)
        self.hooks.by(ctx).unlinked(parent, name, victim, _links_left(status))
        self.inodes.drop_if_unused(victim)

    @answered_when_possible
    def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """RMDIR: vfs_rmdir()."""
        parent = self.known[parent_inode]
        victim, _ = self.inodes.judged(parent, name)
        if self.overlays:
            self.layers.need(parent)
            self._need_to_lose(victim, 1)
        self._remove(os.rmdir, parent, name, victim, ctx)
        self.hooks.by(ctx).removed_directory(parent, name, victim)
        self.inodes.drop_if_unused(victim)

    @answered_when_possible
    def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """RENAME, RENAME2: vfs_rename()."""
        parent, new_parent = self.known[parent_inode_old], self.known[parent_inode_new]
        moved, _ = self.inodes.judged(parent, name_old)
        self.names.settled(ctx.pid)
        target, links_left = self._judged_target(new_parent, name_new)
        try:
            if self.overlays:
                self.layers.need(moved, parent, new_parent)
                if target is not None and flags & pyfuse3.RENAME_EXCHANGE:
                    self.layers.need(target)
                elif target is not None:
                    self._need_to_lose(target, links_left + 1)
            names = parent.fd, name_old, new_parent.fd, name_new
            if flags & _RENAME_WHITEOUT or (ctx.uid and self._asks_who(parent, new_parent)):
                objects = [moved] if target is None else [moved, target]
                self.by_owner(ctx, partial(_rename, *names, flags), *objects)
            else:
                _rename(*names, flags)
            if flags & pyfuse3.RENAME_EXCHANGE:
                assert target is not None
                self.hooks.by(ctx).exchanged(parent, name_old, moved, new_parent, name_new, target)
            elif target is not moved:
                self.hooks.by(ctx).renamed(
                    parent, name_old, new_parent, name_new, moved, target, links_left
                )
        finally:
            self.inodes.drop_if_unused(moved)
            if target is not None:
                self.inodes.drop_if_unused(target)

    @answered
    def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        """STATFS: vfs_statfs()."""
        try:
            below = os.statvfs(self.inodes.root.path)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                # By these mounting.mountpoints knows that a mount's own daemon is dead.
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
            raise
        answer = pyfuse3.StatvfsData()
        for field in (
            "f_bsize",
            "f_frsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_favail",
            "f_namemax",
        ):
            setattr(answer, field, getattr(below, field))
        return answer

    # Helpers.

    def _made(
        self, parent: Inode, name: bytes, ctx: RequestContext, *, is_dir: bool = False
    ) -> EntryAttributes:
        """Finish the making of an object that has a name but no open descriptor."""
        try:
            inode, status = self.inodes.find(parent, name)
        except FileNotFoundError:
            self.hooks.by(ctx).made_and_gone(parent, name, is_dir)
            raise
        if self.overlays:
            self.layers.mark_up(inode, data=True)
        self.hooks.by(ctx).created(parent, name, inode)
        # If others have replaced the object, another one has the name by now.
        self.inodes.bears(parent, name, inode, status.st_nlink)
        return self.entry(inode, status)

    def _need_to_lose(self, inode: Inode, links: int) -> None:
        """Check, on an overlay, that an object with so many links can lose one without waiting.

        Calls Layers.need_unlocked(), and Layers.need() if the overlay would copy the
        object up for that.
        """
        self.layers.need_unlocked(inode)
        if links >= self._below.links_copied:
            self.layers.need(inode)

    def _judged_target(self, parent: Inode, name: bytes) -> tuple[Inode | None, int]:
        """Return the object that a rename would replace, and how many names it would have left."""
        try:
            target, status = self.inodes.judged(parent, name)
        except FileNotFoundError:
            return None, 0
        return target, _links_left(status)

    def _remove(
        self,
        remove: Callable[..., None],
        parent: Inode,
        name: bytes,
        victim: Inode,
        ctx: RequestContext,
    ) -> None:
        """Remove a name from a directory; in a sticky one only the victim's owner may."""
        if ctx.uid and _is_sticky(parent):
            self.by_owner(ctx, partial(remove, name, dir_fd=parent.fd), victim)
        else:
            remove(name, dir_fd=parent.fd)

    def _asks_who(self, parent: Inode, new_parent: Inode) -> bool:
        """Return whether it matters to SOURCE which user renames, by rights or by reserved room.

        Acting as another user takes far longer than this check.
        """
        return (
            _is_sticky(parent)
            or (new_parent is not parent and _is_sticky(new_parent))
            or self.is_short_of_room(new_parent.fd)
        )


def _is_sticky(directory: Inode) -> bool:
    return bool(os.fstat(directory.fd).st_mode & stat.S_ISVTX)


def _rename(directory: int, name: bytes, new_directory: int, new_name: bytes, flags: int) -> None:
    if flags:
        renameat2(directory, name, new_directory, new_name, flags)
    else:  # faster
        os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=new_directory)


def _links_left(status: os.stat_result) -> int:
    """Return how many names an object has when one is gone; a directory has only one."""
    return 0 if stat.S_ISDIR(status.st_mode) else max(status.st_nlink - 1, 0)
