# SPDX-License-Identifier: GPL-2.0-or-later
"""``-o sync`` and ``-o dirsync``: a request ends when its change is on SOURCE's disk.

fs.mount uses these operations instead of those of fs.operations if a mount asks for them, so
other mounts pay nothing.  Events are queued at once, as always; only the answer waits for
fsync(2), which runs in a thread.  For written data, the kernel sends FSYNC itself.

Linux: IS_SYNC(), IS_DIRSYNC().
"""

from __future__ import annotations

import ctypes
import os
import stat
from functools import partial

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, RequestContext

from fusenotify.fs.operations import Operations
from fusenotify.fs.requests import answered_later


class SyncedOperations(Operations):
    """Operations that are answered when their changes of names are on the disk (dirsync).

    With all_of_it, this holds for changes of attributes, too (sync).
    """

    all_of_it = False

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKNOD."""
        made = await super().mknod(parent_inode, name, mode, rdev, ctx)
        await self._to_disk(ctx, parent_inode)
        return made

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKDIR."""
        made = await super().mkdir(parent_inode, name, mode, ctx)
        await self._to_disk(ctx, parent_inode, made.st_ino)
        return made

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """SYMLINK."""
        made = await super().symlink(parent_inode, name, target, ctx)
        await self._to_disk(ctx, parent_inode)
        return made

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """LINK."""
        made = await super().link(inode, new_parent_inode, new_name, ctx)
        await self._to_disk(ctx, new_parent_inode, *[inode] * self.all_of_it)
        return made

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """UNLINK."""
        await super().unlink(parent_inode, name, ctx)
        await self._to_disk(ctx, parent_inode)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """RMDIR."""
        await super().rmdir(parent_inode, name, ctx)
        await self._to_disk(ctx, parent_inode)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """RENAME, RENAME2."""
        await super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)
        # The new directory first, so that at any time one of the two names is on the disk.
        await self._to_disk(ctx, parent_inode_new, parent_inode_old)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """CREATE."""
        info, made = await super().create(parent_inode, name, mode, flags, ctx)
        await self._to_disk(ctx, parent_inode, made.st_ino)
        return info, made

    async def open(
        self, inode: int, flags: int, ctx: RequestContext, *, opened: int | None = None
    ) -> FileInfo:
        """OPEN, which may truncate."""
        info = await super().open(inode, flags, ctx, opened=opened)
        if self.all_of_it and flags & os.O_TRUNC:
            await self._to_disk(ctx, inode)
        return info

    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
        *,
        opened: int | None = None,
        written: bool = False,
    ) -> EntryAttributes:
        """SETATTR."""
        changed = await super().setattr(
            inode, attr, fields, fh, ctx, opened=opened, written=written
        )
        if self.all_of_it:
            await self._to_disk(ctx, inode)
        return changed

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """SETXATTR."""
        await super().setxattr(inode, name, value, ctx)
        if self.all_of_it:
            await self._to_disk(ctx, inode)

    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """REMOVEXATTR."""
        await super().removexattr(inode, name, ctx)
        if self.all_of_it:
            await self._to_disk(ctx, inode)

    @answered_later
    async def _to_disk(self, ctx: RequestContext, *numbers: int) -> None:
        """Wait until the changes of these inodes are on SOURCE's disk.

        Raises FUSEError: EIO and the like; EAGAIN if too many requests of the user wait.
        """
        changed = [self.known[number] for number in dict.fromkeys(numbers)]
        for inode in changed:  # otherwise it could be forgotten during the wait
            inode.pin()
        try:
            async with self.turns.place(ctx.uid, 0), self.turns.brief:
                for inode in changed:
                    held = self.inodes.descriptors.open(inode.path, os.O_PATH)
                    await self.turns.thread(partial(_sync, held, self.inodes.root.path))
        finally:
            for inode in changed:
                inode.unpin()


class FullySyncedOperations(SyncedOperations):
    """Operations of ``-o sync``."""

    all_of_it = True


def _sync(held: int, root: str) -> None:
    """Call fsync(2) for an object, or syncfs(2) for SOURCE if the object cannot be opened.

    held is an O_PATH descriptor of the object, which is closed.
    """
    try:
        kind = os.fstat(held).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise PermissionError  # opening a fifo or a device may have effects
        opened = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK)
    except (PermissionError, BlockingIOError):
        opened = -1
    finally:
        os.close(held)
    if opened < 0:
        _sync_all(root)
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _sync_all(root: str) -> None:
    """Call syncfs(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(opened):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(opened)
