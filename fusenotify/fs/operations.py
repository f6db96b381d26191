# SPDX-License-Identifier: GPL-2.0-or-later
"""FUSE requests about names, attributes and the filesystem; with them, all there are.

pyfuse3 calls in from fs.mount; each request is done on SOURCE, then told to
engine.hooks.  fs.file_requests has those about open files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError, RequestContext

from fusenotify.credentials import Credentials
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.file_requests import FileRequests
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.ownership import AsUser
from fusenotify.fs.permissions import allowed
from fusenotify.fs.requests import answered, answered_when_possible, unanswered
from fusenotify.fs.set_id import (
    keeps_set_id,
    new_mode,
    settable_mode,
    strip_by_acl,
    strip_set_id,
)
from fusenotify.fs.syscalls import renameat2, utimens
from fusenotify.view import SET_ID, View

SOCKET_XATTR = b"user.fusenotify.socket"
# The kernel names up to 65,000 objects in one request.
_FORGOTTEN_AT_A_TIME = 2000
_ACCESS_ACL = b"system.posix_acl_access"
_CAPABILITY = b"security.capability"
_ROOTS_ALONE = b"trusted."
_AS_DAEMON = nullcontext()


class Operations(FileRequests):
    """A passthrough of the tree that inodes holds.

    socket is the value of the reserved attribute by which clients find the
    server; view is that of Requests, exact_access that of FileRequests.
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
        super().__init__(inodes, hooks, view=view, exact_access=exact_access)
        self._socket = socket
        # The same answer each time: cheaper than an error, and the kernel makes it ENOENT.
        self._absent = EntryAttributes()
        self._absent.st_ino = pyfuse3.InodeT(0)
        self._absent.entry_timeout = view.absent_timeout

    # Names and attributes.

    @answered
    def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """LOOKUP: path_lookup()."""
        parent = self.inodes[parent_inode]
        try:
            found, status = self.inodes.lookup(parent, name)
        except FileNotFoundError:
            return self._absent
        if found.others is not None or self.names.is_waiting:
            self.names.looked_up(found, ctx.pid)
        return self.entry(found, status)

    @unanswered
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """FORGET, BATCH_FORGET: iput() in the kernel."""
        for count, (number, lookups) in enumerate(inode_list, 1):
            self.inodes.give_back(number, lookups)
            if not count % _FORGOTTEN_AT_A_TIME:
                await trio.lowlevel.checkpoint()
        self.inodes.unused.turn()

    @answered
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """GETATTR: vfs_getattr()."""
        found = self.inodes[inode]
        return self.attributes(found, os.fstat(found.fd))

    @answered_when_possible
    def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
        *,
        opened: int | None = None,
    ) -> EntryAttributes:
        """SETATTR: notify_change()."""
        changed = self.inodes[inode]
        file = None if fh is None else self.files[fh]
        if changed.others is not None:
            self.names.use(changed, ctx.pid)
        path = changed.path
        owner = fields.update_uid or fields.update_gid
        times = fields.update_atime or fields.update_mtime
        nothing = not (owner or times or fields.update_mode or fields.update_size)
        strips = False
        if nothing or owner or fields.update_size or fields.update_mode:
            before = os.fstat(changed.fd)
            if before.st_mode & SET_ID:
                if nothing:
                    strips = self._may_strip(changed, before, ctx)
                elif owner or fields.update_size:
                    strips = owner or not keeps_set_id(ctx)
        if fields.update_mode:
            mode = settable_mode(stat.S_IMODE(attr.st_mode), before, self._view)
        if fields.update_size:  # first: it may have to wait
            self.resize(changed, file, attr.st_size, ctx, opened)
        if owner:
            uid = attr.st_uid if fields.update_uid else -1
            gid = attr.st_gid if fields.update_gid else -1
            os.chown(path, *self._given(before, uid, gid, ctx))
        if fields.update_mode:  # behind the owner: chown() clears set-id bits
            os.chmod(path, mode)
        lost = strips and strip_set_id(changed.fd, before, ctx)
        if times:  # last: the others set times
            atime = attr.st_atime_ns if fields.update_atime else None
            mtime = attr.st_mtime_ns if fields.update_mtime else None
            utimens(path, atime, mtime)
        self.hooks.by(ctx).attributes_changed(
            changed,
            changed.dentry if file is None else file.dentry,
            atime=fields.update_atime,
            mtime=fields.update_mtime,
            size=fields.update_size,
            owner_or_mode=owner or fields.update_mode or lost,
        )
        return self.attributes(changed, os.fstat(changed.fd))

    @answered
    def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """ACCESS: inode_permission().  Not asked with default_permissions."""
        found = self.inodes[inode]
        groups = frozenset(pyfuse3.get_sup_groups(ctx.pid))
        who = Credentials(ctx.pid, ctx.uid, ctx.gid, groups)
        return allowed(found.fd, os.fstat(found.fd), who, mode, self._view)

    @answered
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """READLINK: vfs_readlink()."""
        return os.readlink(b"", dir_fd=self.inodes[inode].fd)

    # Making, moving and removing names.

    @answered
    def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKNOD: vfs_mknod()."""
        parent = self.inodes[parent_inode]
        mode = new_mode(mode, parent.fd, self._view, ctx)
        with AsUser.calling(ctx):
            os.mknod(name, mode, rdev, dir_fd=parent.fd)
        return self._made(parent, name, ctx)

    @answered
    def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKDIR: vfs_mkdir()."""
        parent = self.inodes[parent_inode]
        with AsUser.calling(ctx):
            os.mkdir(name, mode, dir_fd=parent.fd)
        return self._made(parent, name, ctx)

    @answered
    def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """SYMLINK: vfs_symlink()."""
        parent = self.inodes[parent_inode]
        with AsUser.calling(ctx):
            os.symlink(target, name, dir_fd=parent.fd)
        return self._made(parent, name, ctx)

    @answered
    def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """LINK: vfs_link()."""
        linked, parent = self.inodes[inode], self.inodes[new_parent_inode]
        if not self._is_plain:
            before = os.fstat(linked.fd)
            if before.st_mode & self._view.hidden_set_id(before.st_uid, before.st_gid):
                raise FUSEError(errno.EPERM)
        first = linked.dentry
        with AsUser.calling(ctx, as_owner=not self._is_plain):
            os.link(linked.path, new_name, dst_dir_fd=parent.fd, follow_symlinks=True)
        self.hooks.by(ctx).linked(linked, parent, new_name)
        status = os.fstat(linked.fd)
        self.names.linked(linked, first, status.st_nlink, ctx.pid)
        return self.entry(linked, status)

    @answered
    def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """UNLINK: vfs_unlink()."""
        parent = self.inodes[parent_inode]
        victim, status = self.inodes.judged(parent, name)
        self.names.settled(ctx.pid)
        with self._removing(parent, ctx):
            os.unlink(name, dir_fd=parent.fd)
        self.hooks.by(ctx).unlinked(parent, name, victim, _links_left(status))
        self.inodes.drop_if_unused(victim)

    @answered
    def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """RMDIR: vfs_rmdir()."""
        parent = self.inodes[parent_inode]
        victim, _ = self.inodes.judged(parent, name)
        with self._removing(parent, ctx):
            os.rmdir(name, dir_fd=parent.fd)
        self.hooks.by(ctx).removed_directory(parent, name, victim)
        self.inodes.drop_if_unused(victim)

    @answered
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
        parent, new_parent = self.inodes[parent_inode_old], self.inodes[parent_inode_new]
        moved, _ = self.inodes.judged(parent, name_old)
        self.names.settled(ctx.pid)
        target, links_left = self._judged_target(new_parent, name_new)
        try:
            with AsUser.calling(ctx, as_owner=not self._is_plain):
                if flags:
                    renameat2(parent.fd, name_old, new_parent.fd, name_new, flags)
                else:
                    os.rename(name_old, name_new, src_dir_fd=parent.fd, dst_dir_fd=new_parent.fd)
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
        below = os.statvfs(self.inodes.root.path)
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

    # Extended attributes.

    @answered
    def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """GETXATTR: vfs_getxattr(); the reserved one tells where the server listens."""
        if name == SOCKET_XATTR:
            return self._socket
        return os.getxattr(self.inodes[inode].path, name)

    @answered
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """SETXATTR: vfs_setxattr()."""
        _refuse_reserved(name)
        if name == _CAPABILITY and ctx.uid and not self._is_plain:
            raise FUSEError(errno.EPERM)  # as fs.set_id has it with bits
        changed = self.inodes[inode]
        if changed.others is not None:
            self.names.use(changed, ctx.pid)
        before = os.fstat(changed.fd)
        with AsUser.calling(ctx):
            os.setxattr(changed.path, name, value)
        if name == _ACCESS_ACL:
            strip_by_acl(changed.path, before, self._view.shown(before).st_gid, ctx)
        self.forget_attributes(changed)  # an ACL sets the mode
        self.hooks.by(ctx).xattr_changed(changed)

    @answered
    def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        """LISTXATTR: vfs_listxattr()."""
        names = [os.fsencode(name) for name in os.listxattr(self.inodes[inode].path)]
        if ctx.uid:
            return [name for name in names if not name.startswith(_ROOTS_ALONE)]
        return names

    @answered
    def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """REMOVEXATTR: vfs_removexattr()."""
        _refuse_reserved(name)
        changed = self.inodes[inode]
        if changed.others is not None:
            self.names.use(changed, ctx.pid)
        os.removexattr(changed.path, name)
        self.forget_attributes(changed)
        self.hooks.by(ctx).xattr_changed(changed)

    # Helpers.

    def _made(self, parent: Inode, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Finish a new object that has a name but no open descriptor."""
        inode, status = self.inodes.lookup(parent, name)
        self.hooks.by(ctx).created(parent, name, inode)
        return self.entry(inode, status)

    def _may_strip(self, inode: Inode, status: os.stat_result, ctx: RequestContext) -> bool:
        """Return whether set-id bits may go where nothing is asked for.

        That is how the kernel says that somebody is about to write who may not
        keep them, or a file's capabilities; and what chown(2) is that changes
        neither owner nor group, which is for the owner alone.

        Raises FUSEError, EPERM.
        """
        shown = self._view.shown(status)
        if not shown.st_mode & SET_ID or stat.S_ISDIR(shown.st_mode):
            return False
        if ctx.uid not in (0, shown.st_uid) and not self.files_by_inode.has_writer(inode):
            raise FUSEError(errno.EPERM)
        return True

    def _judged_target(self, parent: Inode, name: bytes) -> tuple[Inode | None, int]:
        """Return what a rename would replace, and how many names that would have left."""
        try:
            target, status = self.inodes.judged(parent, name)
        except FileNotFoundError:
            return None, 0
        return target, _links_left(status)

    def _removing(self, parent: Inode, ctx: RequestContext) -> AbstractContextManager[None]:
        """Return the block in which ctx may remove a name from a directory.

        Whose object that is decides in a sticky one; there SOURCE judges.
        """
        if ctx.uid and self._is_plain and os.fstat(parent.fd).st_mode & stat.S_ISVTX:
            return AsUser.calling(ctx, as_owner=False)
        return _AS_DAEMON

    def _given(
        self, before: os.stat_result, uid: int, gid: int, ctx: RequestContext
    ) -> tuple[int, int]:
        """Return what chown() is to give in SOURCE of what it was asked to give.

        Who is shown as the owner may give what is shown already, of which
        SOURCE may have something else.
        """
        shown = self._view.shown(before)
        if ctx.uid and uid == shown.st_uid:
            uid = -1
        if ctx.uid and gid == shown.st_gid:
            gid = -1
        return uid, gid


def _links_left(status: os.stat_result) -> int:
    """Return how many names an object has when this one is gone; a directory has but one."""
    return 0 if stat.S_ISDIR(status.st_mode) else max(status.st_nlink - 1, 0)


def _refuse_reserved(name: bytes) -> None:
    if name == SOCKET_XATTR:
        raise FUSEError(errno.EPERM)
