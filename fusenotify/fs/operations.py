# SPDX-License-Identifier: GPL-2.0-or-later
"""The FUSE requests: each done on SOURCE, then told to engine.hooks.

pyfuse3 calls in from fs.mount; below are fs.inodes and fs.handles.

Invariants
    No method that notifies awaits, so requests finish in the order in which
        they arrive; fs.mount's fence rests on it.
    A request ends in an answer or in FUSEError, whatever happened: any other
        exception would end the daemon (answered()).
    RELEASE is answered at once: behind twelve unanswered ones the kernel lets
        later requests overtake.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from fusenotify.credentials import Credentials
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.handles import OpenDirectory, OpenFile, flags_below
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.permissions import allowed
from fusenotify.fs.syscalls import path_of, renameat2, utimens

_P = ParamSpec("_P")
_T = TypeVar("_T")

log = logging.getLogger(__name__)

SOCKET_XATTR = b"user.fusenotify.socket"
_SET_ID = stat.S_ISUID | stat.S_ISGID


def answered(
    method: Callable[Concatenate[Operations, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[Operations, _P], Coroutine[Any, Any, _T]]:
    """Turn every exception of a request into the errno that the program gets."""

    @functools.wraps(method)
    async def answer(self: Operations, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(self, *args, **kwargs)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        except FUSEError:
            raise
        except Exception:
            log.exception("%s%r failed", method.__name__, args)
            raise FUSEError(errno.EIO) from None

    return answer


class Operations(pyfuse3.Operations):
    """A passthrough of the tree that inodes holds.

    timeout is how long, in seconds, the kernel may answer lookups and stats
    from its cache.  socket is the value of the reserved attribute by which
    clients find the server.  background counts the requests done that the
    kernel sends without waiting for them.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, inodes: Inodes, hooks: Hooks, *, socket: bytes, timeout: float) -> None:
        super().__init__()
        self.inodes = inodes
        self.hooks = hooks
        self.background = 0
        self.files: dict[int, OpenFile] = {}
        self._socket = socket
        self._timeout = timeout
        self._uid, self._gid = os.geteuid(), os.getegid()

    # Names and attributes.

    @answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """LOOKUP: path_lookup()."""
        return self._entry(*self.inodes.lookup(self.inodes[parent_inode], name))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """FORGET: iput() in the kernel."""
        for number, lookups in inode_list:
            self.inodes.forget(number, lookups)

    @answered
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """GETATTR: vfs_getattr()."""
        found = self.inodes[inode]
        return self._attributes(found, os.fstat(found.fd))

    @answered
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """SETATTR: notify_change()."""
        changed = self.inodes[inode]
        file = None if fh is None else self.files[fh]
        path = changed.path
        owner = fields.update_uid or fields.update_gid
        if owner:
            uid = attr.st_uid if fields.update_uid else -1
            gid = attr.st_gid if fields.update_gid else -1
            os.chown(path, uid, gid)
        if fields.update_mode:  # behind the owner: chown() clears set-id bits
            os.chmod(path, stat.S_IMODE(attr.st_mode))
        if fields.update_size:
            os.truncate(path if file is None or not file.writable else file.fd, attr.st_size)
        if fields.update_atime or fields.update_mtime:  # last: the others set times
            atime = attr.st_atime_ns if fields.update_atime else None
            mtime = attr.st_mtime_ns if fields.update_mtime else None
            utimens(path, atime, mtime)
        self.hooks.attributes_changed(
            changed,
            changed.dentry if file is None else file.dentry,
            atime=fields.update_atime,
            mtime=fields.update_mtime,
            size=fields.update_size,
            owner_or_mode=owner or fields.update_mode,
        )
        return self._attributes(changed, os.fstat(changed.fd))

    @answered
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """ACCESS: inode_permission().  Not asked with default_permissions."""
        found = self.inodes[inode]
        groups = frozenset(pyfuse3.get_sup_groups(ctx.pid))
        who = Credentials(ctx.pid, ctx.uid, ctx.gid, groups)
        return allowed(found.fd, os.fstat(found.fd), who, mode)

    @answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """READLINK: vfs_readlink()."""
        return os.readlink(b"", dir_fd=self.inodes[inode].fd)

    # Making, moving and removing names.

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKNOD: vfs_mknod()."""
        parent = self.inodes[parent_inode]
        mode &= ~ctx.umask
        os.mknod(name, mode, rdev, dir_fd=parent.fd)
        return self._made(parent, name, ctx, mode)

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKDIR: vfs_mkdir()."""
        parent = self.inodes[parent_inode]
        os.mkdir(name, mode & ~ctx.umask, dir_fd=parent.fd)
        return self._made(parent, name, ctx)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """SYMLINK: vfs_symlink()."""
        parent = self.inodes[parent_inode]
        os.symlink(target, name, dir_fd=parent.fd)
        return self._made(parent, name, ctx)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """LINK: vfs_link()."""
        linked, parent = self.inodes[inode], self.inodes[new_parent_inode]
        os.link(linked.path, new_name, dst_dir_fd=parent.fd, follow_symlinks=True)
        self.hooks.linked(linked, parent, new_name)
        return self._entry(linked, os.fstat(linked.fd))

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """UNLINK: vfs_unlink()."""
        parent = self.inodes[parent_inode]
        victim, _ = self.inodes.lookup(parent, name)
        os.unlink(name, dir_fd=parent.fd)
        self.hooks.unlinked(parent, name, victim, os.fstat(victim.fd).st_nlink)
        self.inodes.drop_if_unused(victim)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """RMDIR: vfs_rmdir()."""
        parent = self.inodes[parent_inode]
        victim, _ = self.inodes.lookup(parent, name)
        os.rmdir(name, dir_fd=parent.fd)
        self.hooks.removed_directory(parent, name, victim)
        self.inodes.drop_if_unused(victim)

    @answered
    async def rename(
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
        moved, _ = self.inodes.lookup(parent, name_old)
        target = self._lookup_or_none(new_parent, name_new)
        try:
            renameat2(parent.fd, name_old, new_parent.fd, name_new, flags)
            if flags & pyfuse3.RENAME_EXCHANGE:
                assert target is not None
                self.hooks.exchanged(parent, name_old, moved, new_parent, name_new, target)
            elif target is not moved:
                links = 0 if target is None or target.is_dir else os.fstat(target.fd).st_nlink
                self.hooks.renamed(parent, name_old, new_parent, name_new, moved, target, links)
        finally:
            self.inodes.drop_if_unused(moved)
            if target is not None:
                self.inodes.drop_if_unused(target)

    # Files.

    @answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """OPEN: do_dentry_open(), handle_truncate()."""
        opened = self.inodes[inode]
        truncates = flags & os.O_TRUNC
        mode = os.fstat(opened.fd).st_mode if truncates else 0
        file = self._opened(opened, os.open(opened.path, flags_below(flags)), flags, ctx)
        if truncates:
            self.hooks.truncated_by_open(file, self._clear_set_id(file, mode, ctx))
        return FileInfo(fh=pyfuse3.FileHandleT(file.fd), keep_cache=False)

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """CREATE: vfs_create(), then do_dentry_open()."""
        parent = self.inodes[parent_inode]
        mode &= ~ctx.umask
        below = flags_below(flags)
        try:
            fd = os.open(name, below | os.O_CREAT | os.O_EXCL, mode, dir_fd=parent.fd)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            # It came up behind the mount since the kernel looked.
            existing, status = self.inodes.lookup(parent, name)
            info = await self.open(existing.number, flags, ctx)
            return info, self._entry(existing, status)
        try:
            self._give_to_caller(fd, parent, ctx, mode)
            inode, status = self.inodes.take(os.open(path_of(fd), os.O_PATH))
        except BaseException:
            os.close(fd)
            raise
        self.hooks.created(parent, name, inode)
        file = self._opened(inode, fd, flags, ctx)
        info = FileInfo(fh=pyfuse3.FileHandleT(file.fd), keep_cache=False)
        return info, self._entry(inode, status)

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """READ: vfs_read()."""
        self.background += 1
        data = os.pread(fh, size, off)
        if data:
            self.hooks.accessed(self.files[fh])
        return data

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """WRITE: vfs_write()."""
        self.background += 1
        written = os.pwrite(fh, buf, off)
        if written:
            self.hooks.modified(self.files[fh])
        return written

    @answered
    async def flush(self, fh: int) -> None:
        """FLUSH: filp_close(); what close(2) may still have to report."""
        os.close(os.dup(fh))

    @answered
    async def release(self, fh: int) -> None:
        """RELEASE: __fput()."""
        self.background += 1
        file = self.files.pop(fh)
        try:
            os.close(fh)
        finally:
            self.hooks.closed(file)

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        """FSYNC: vfs_fsync(); in a thread, for it emits nothing and may take seconds."""
        await trio.to_thread.run_sync(os.fdatasync if datasync else os.fsync, fh)

    # Directories.

    @answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """OPENDIR: do_dentry_open()."""
        opened = self.inodes[inode]
        flags = os.O_RDONLY | os.O_DIRECTORY
        return self._opened(opened, os.open(opened.path, flags), flags, ctx).fd

    @answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """READDIRPLUS: iterate_dir(); offsets are indices into the snapshot."""
        directory = self.files[fh]
        assert isinstance(directory, OpenDirectory)
        assert isinstance(directory.inode, Inode)
        if not start_id:
            directory.snapshot()
        for index in range(start_id, len(directory.entries)):
            name = directory.entries[index]
            if name in (b".", b".."):
                # The kernel takes no reference to these and reads only the type.
                attributes = self._attributes(directory.inode, os.fstat(fh))
                if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes, index + 1):
                    break
                continue
            try:
                inode, status = self.inodes.lookup(directory.inode, name)
            except FileNotFoundError:
                continue  # removed since the snapshot
            entry = self._entry(inode, status)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, index + 1):
                self.inodes.forget(inode.number, 1)
                break
        self.hooks.accessed(directory)

    @answered
    async def releasedir(self, fh: int) -> None:
        """RELEASEDIR: __fput()."""
        await self.release(fh)

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """FSYNCDIR: vfs_fsync()."""
        await self.fsync(fh, datasync)

    @answered
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
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
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """GETXATTR: vfs_getxattr(); the reserved one tells where the server listens."""
        if name == SOCKET_XATTR:
            return self._socket
        return os.getxattr(self.inodes[inode].path, name)

    @answered
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """SETXATTR: vfs_setxattr()."""
        _refuse_reserved(name)
        changed = self.inodes[inode]
        os.setxattr(changed.path, name, value)
        self.hooks.xattr_changed(changed)

    @answered
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        """LISTXATTR: vfs_listxattr()."""
        return [os.fsencode(name) for name in os.listxattr(self.inodes[inode].path)]

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """REMOVEXATTR: vfs_removexattr()."""
        _refuse_reserved(name)
        changed = self.inodes[inode]
        os.removexattr(changed.path, name)
        self.hooks.xattr_changed(changed)

    # Helpers.

    def _opened(self, inode: Inode, fd: int, flags: int, ctx: RequestContext) -> OpenFile:
        kind = OpenDirectory if inode.is_dir else OpenFile
        file = self.files[fd] = kind(inode, fd, flags, ctx.pid, ctx.uid, ctx.gid)
        self.hooks.opened(file)
        return file

    def _made(
        self, parent: Inode, name: bytes, ctx: RequestContext, mode: int = 0
    ) -> EntryAttributes:
        """Finish a new object that has a name but no open descriptor."""
        self._give_to_caller(name, parent, ctx, mode)
        inode, status = self.inodes.lookup(parent, name)
        self.hooks.created(parent, name, inode)
        return self._entry(inode, status)

    def _give_to_caller(
        self, made: int | bytes, parent: Inode, ctx: RequestContext, mode: int
    ) -> None:
        """Make the caller the owner of a new object, a descriptor or a name in parent.

        In a set-gid directory the group has come from there.  Set-id bits,
        which chown() clears, are put back.  A daemon that is not root cannot,
        and what is made through its mount is its own.
        """
        if (ctx.uid == self._uid and ctx.gid == self._gid) or self._uid != 0:
            return
        inherits = os.fstat(parent.fd).st_mode & stat.S_ISGID
        gid = -1 if inherits else ctx.gid
        if isinstance(made, int):
            os.chown(made, ctx.uid, gid)
        else:
            os.chown(made, ctx.uid, gid, dir_fd=parent.fd, follow_symlinks=False)
        if mode & _SET_ID:
            if isinstance(made, int):
                os.chmod(made, stat.S_IMODE(mode))
            else:
                os.chmod(made, stat.S_IMODE(mode), dir_fd=parent.fd)

    def _clear_set_id(self, file: OpenFile, mode: int, ctx: RequestContext) -> bool:
        """Do what O_TRUNC by an ordinary user does to a set-id file.

        Linux: file_remove_privs().  Returns whether bits were lost.
        """
        lost = mode & stat.S_ISUID
        if mode & stat.S_IXGRP:
            lost |= mode & stat.S_ISGID
        if not lost or ctx.uid == 0:
            return False
        os.chmod(path_of(file.fd), stat.S_IMODE(mode & ~lost))
        return True

    def _lookup_or_none(self, parent: Inode, name: bytes) -> Inode | None:
        try:
            return self.inodes.lookup(parent, name)[0]
        except FileNotFoundError:
            return None

    def _entry(self, inode: Inode, status: os.stat_result) -> EntryAttributes:
        """Answer with an inode, of which the kernel now has one lookup more.

        The names of a file with several are not cached: what is done to it
        says only the inode, and the lookup before tells by which name.
        """
        inode.lookups += 1
        answer = self._attributes(inode, status)
        if status.st_nlink > 1 and not inode.is_dir:
            answer.entry_timeout = 0
        return answer

    def _attributes(self, inode: Inode, status: os.stat_result) -> EntryAttributes:
        answer = EntryAttributes()
        answer.st_ino = pyfuse3.InodeT(inode.number)
        answer.entry_timeout = answer.attr_timeout = self._timeout
        answer.st_mode = pyfuse3.ModeT(status.st_mode)
        answer.st_nlink = status.st_nlink
        answer.st_uid = status.st_uid
        answer.st_gid = status.st_gid
        answer.st_rdev = status.st_rdev
        answer.st_size = status.st_size
        answer.st_blksize = status.st_blksize
        answer.st_blocks = status.st_blocks
        answer.st_atime_ns = status.st_atime_ns
        answer.st_mtime_ns = status.st_mtime_ns
        answer.st_ctime_ns = status.st_ctime_ns
        return answer


def _refuse_reserved(name: bytes) -> None:
    if name == SOCKET_XATTR:
        raise FUSEError(errno.EPERM)
