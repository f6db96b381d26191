# SPDX-License-Identifier: GPL-2.0-or-later
"""FUSE requests about open files and directories.

It builds on fs.requests; fs.attribute_requests adds the requests about attributes, fs.operations
those about names.

Invariant
    RELEASE is answered at once: while twelve are unanswered, later requests
        overtake the RELEASEs that the kernel holds back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from fusenotify.credentials import Actor
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.appending import append
from fusenotify.fs.below import LOCAL, Below, links_copied
from fusenotify.fs.handles import OpenDirectory, OpenFile, flags_below
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.ownership import AsUser, is_short_of_room
from fusenotify.fs.requests import (
    Requests,
    answered,
    answered_later,
    answered_when_possible,
)
from fusenotify.fs.set_id import keeps_set_id, new_mode, strip_hidden, strip_set_id
from fusenotify.fs.syscalls import hold
from fusenotify.fs.waiting import Leased, SleepingOpen
from fusenotify.fs.writeback import OWN_FILE
from fusenotify.view import SET_ID, View

# The most entries of a directory in one answer, since each may have to be looked up.
_MOST_ENTRIES = 512
_DOTS = (b".", b"..")
# Without any of these flags, a file is only read; with one, an overlay copies it up.
_WRITING = os.O_ACCMODE | os.O_TRUNC


class FileRequests(Requests):
    """Requests about open files and directories.

    With exact_access, files that are opened only for reading are read past the
    kernel's cache, so that each read is a request; they cannot be mapped shared then.
    """

    def __init__(self, inodes: Inodes, hooks: Hooks, *, view: View, exact_access: bool) -> None:
        super().__init__(inodes, hooks, view=view)
        self._exact_access = exact_access
        self._open_below = inodes.descriptors.open
        self._wanted_flags = inodes.submounts.open_flags
        self._below = Below.of(inodes.submounts.source)
        self._opens_at_once = not self._below.sleeps and inodes.device not in self.overlays

    @answered_when_possible
    def open(
        self, inode: int, flags: int, ctx: RequestContext, *, opened: int | None = None
    ) -> FileInfo:
        """OPEN: do_dentry_open(), handle_truncate()."""
        write_back = self.write_back
        if write_back is not None and write_back.under_way and write_back.asks(ctx.pid):
            return FileInfo(fh=pyfuse3.FileHandleT(OWN_FILE), keep_cache=True)
        known = self.known[inode]
        before = os.fstat(known.fd) if flags & os.O_TRUNC else None
        fd = self.descriptor_of(known, flags, opened, uid=ctx.uid)
        lost = False
        try:
            if opened is not None and flags & os.O_TRUNC:
                os.ftruncate(opened, 0)
            if before is not None and before.st_mode & SET_ID and not keeps_set_id(ctx):
                lost = strip_set_id(known.fd, before, ctx)
        except BaseException:
            os.close(fd)
            raise
        if lost:  # the answer cannot tell the kernel
            self.forget_attributes(known)
        if known.others is not None:
            self.names.use(known, ctx.pid, opens=True)
        file = self._opened(known, fd, flags, ctx)
        if before is not None:
            self.hooks.by(file.actor).truncated_by_open(file, lost)
        return self._info(file)

    @answered_when_possible
    def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """CREATE: vfs_create(), then do_dentry_open().

        The kernel has not judged an object that got the name since it looked.  So the
        answer is ESTALE: the kernel looks again, judges what it finds, and sends OPEN
        (fs/namei.c do_filp_open()).
        """
        parent = self.known[parent_inode]
        if self.overlays:
            self.layers.need(parent)
        below = flags_below(flags) | os.O_CREAT | os.O_EXCL
        mode = new_mode(mode, parent.fd, self._view, ctx)
        try:
            with AsUser.calling(ctx):
                fd = self._open_below(name, below, mode, uid=ctx.uid, dir_fd=parent.fd)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            raise FUSEError(errno.ESTALE) from None
        try:
            inode, status = self.inodes.take(hold(fd))
        except BaseException:
            os.close(fd)
            raise
        if self.overlays:
            self.layers.mark_up(inode, data=True)
        self.hooks.by(ctx).created(parent, name, inode)
        file = self._opened(inode, fd, flags, ctx)
        return self._info(file), self.entry(inode, status)

    @answered
    def read(self, fh: int, off: int, size: int) -> bytes:
        """READ: vfs_read()."""
        self.background += 1
        data = os.pread(fh, size, off)
        if data:
            file = self.files[fh]
            if self.ends and (end := self.ends.get(file.inode)) and not file.direct:
                end.read(off, size)
            self.hooks.by(file.actor).accessed(file)
        return data

    @answered
    def write(self, fh: int, off: int, buf: bytes) -> int:
        """WRITE: vfs_write()."""
        self.background += 1
        file = self.files[fh]
        if not self._is_plain and strip_hidden(fh, self._view):
            self.hooks.by(file.actor).attributes_changed(
                file.inode, file.dentry, owner_or_mode=True
            )
        end = self.ends.get(file.inode) if self.ends else None
        appends = end is not None and file.appends and end.is_at(off)
        if file.only_appends and not appends:
            raise FUSEError(errno.EPERM)
        write = append if appends else os.pwrite
        if file.uid and self.is_short_of_room(fh):
            with AsUser(file.uid, file.gid):
                written = write(fh, buf, off)
        else:
            written = write(fh, buf, off)
        if end is not None:
            end.written(off, written, appends)
        if written:
            self.hooks.by(file.actor).modified(file)
        return written

    @answered_later
    async def flush(self, fh: int) -> None:
        """FLUSH: filp_close(); it returns an error that close(2) reports.

        If close(2) never reports one, the kernel is told so, and does not ask again.
        """
        if not self._below.flushes:
            raise FUSEError(errno.ENOSYS)
        if fh == OWN_FILE:
            return
        if not self._below.sleeps:
            os.close(os.dup(fh))
            return
        uid, descriptors = self.files[fh].uid, self.inodes.descriptors
        async with self.turns.place(uid, 0):
            with suppress(OSError):  # close(2) is not refused to users who have their share
                descriptors.make_room(uid)
            descriptors.shares.take(uid)
            try:
                await self.turns.thread(partial(os.close, os.dup(fh)))
            finally:
                descriptors.shares.give_back(uid)

    @answered
    def release(self, fh: int) -> None:
        """RELEASE: __fput()."""
        self.background += 1
        if fh != OWN_FILE:
            self.released += 1
            self._close(self.files[fh])

    def another_below(self) -> None:
        """Record that a filesystem was mounted below SOURCE, about which less is known."""
        links = links_copied(self.inodes.submounts.source)
        self._below = replace(self._below, flushes=True, reserves=True, links_copied=links)

    def close_all(self) -> None:
        """Close all files that are still open: no RELEASE comes after the end of the mount."""
        for file in list(self.files.values()):
            self._close(file)

    @answered_later
    async def fsync(self, fh: int, datasync: bool) -> None:
        """FSYNC: vfs_fsync(); in a thread, since it causes no event and may take seconds."""
        sync = os.fdatasync if datasync else os.fsync
        file = self.files[fh]
        if self._below.in_memory and file.inode.device == self.inodes.device:
            sync(fh)  # starting a thread would take far longer
            return
        await self.turns.in_thread(file.uid, partial(sync, fh))

    # Directories.

    @answered
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        """OPENDIR: do_dentry_open()."""
        opened = self.known[inode]
        flags = os.O_RDONLY | os.O_DIRECTORY
        fd = self._open_quietly(opened, flags, ctx.uid)
        self._opened(opened, fd, flags, ctx)
        return fd

    @answered
    def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """READDIRPLUS: iterate_dir(); offsets are SOURCE's."""
        directory = self.files[fh]
        assert isinstance(directory, OpenDirectory)
        assert isinstance(directory.inode, Inode)
        shown = 0
        try:
            for name, offset in directory.entries(start_id):
                if shown == _MOST_ENTRIES or (shown and not name):
                    break  # the program asks again in any case
                if not name:
                    continue
                if name in _DOTS:
                    entry, inode = self._dots(directory.inode), None
                else:
                    try:
                        inode, status = self.inodes.find(directory.inode, name)
                    except FileNotFoundError:
                        continue  # removed meanwhile
                    entry = self.entry(inode, status)
                if not pyfuse3.readdir_reply(token, name, entry, offset):
                    if inode is not None:
                        self.inodes.forget(inode.number, 1)
                    break
                if inode is not None:
                    self.inodes.bears(directory.inode, name, inode, entry.st_nlink)
                shown += 1
        except OSError:
            if not shown:  # otherwise the next request, which begins there, gets the error
                raise
        self.hooks.by(directory.actor).accessed(directory)

    def _dots(self, directory: Inode) -> EntryAttributes:
        """Return . or .. of a directory; the kernel takes no reference, and reads nothing else."""
        answer = EntryAttributes()
        answer.st_ino = directory.number
        answer.st_mode = stat.S_IFDIR
        return answer

    releasedir = release  # type: ignore[assignment]  # pyfuse3 calls without names
    fsyncdir = fsync

    def resize(
        self,
        inode: Inode,
        file: OpenFile | None,
        size: int,
        ctx: RequestContext,
        opened: int | None,
    ) -> None:
        """vfs_truncate(), do_ftruncate().

        Raises OSError and FUSEError as descriptor_of().
        """
        # truncate(2) would sleep if there is a lease.
        own = file if file is not None and file.writable else None
        fd = self.descriptor_of(inode, os.O_WRONLY, opened) if own is None else own.fd
        try:
            if ctx.uid and self.is_short_of_room(fd):
                with AsUser.calling(ctx):
                    os.ftruncate(fd, size)
            else:
                os.ftruncate(fd, size)
        finally:
            if own is None:
                os.close(fd)
        if (end := self.ends.get(inode)) is not None:
            end.set(size)

    def descriptor_of(
        self, inode: Inode, flags: int, opened: int | None, *, uid: int | None = None
    ) -> int:
        """Return a new descriptor of a known file, or the one that was opened for the request.

        uid is the user whose program keeps it; None if it is for a moment.

        Raises OSError; Leased if a lease makes open(2) sleep, SleepingOpen if a
        filesystem of SOURCE's kind may; FUSEError (EAGAIN) if the program does not
        want to wait.
        """
        if opened is not None:
            if self.overlays and flags & _WRITING:
                self.layers.mark_up(inode, data=True)
            return opened
        below = flags_below(flags)
        at_once = self._opens_at_once and inode.device == self.inodes.device
        if not at_once and self._sleeps(inode, flags):
            if below & os.O_TRUNC and not below & os.O_ACCMODE:
                below |= os.O_RDWR  # to break a lease that only the truncation would break
            raise SleepingOpen(os.dup(inode.fd), below & ~os.O_TRUNC)
        below |= os.O_NONBLOCK
        try:
            try:
                return self._open_quietly(inode, below, uid)
            except PermissionError:
                if not flags & os.O_APPEND:
                    raise
            # An append-only file (chattr +a) cannot be opened in another way.
            return self._open_quietly(inode, below | os.O_APPEND, uid)
        except BlockingIOError:
            if flags & os.O_NONBLOCK:
                raise FUSEError(errno.EAGAIN) from None
            raise Leased from None

    def _open_quietly(self, inode: Inode, flags: int, uid: int | None) -> int:
        """Open a file or directory, with O_NOATIME if that is wanted and the daemon may."""
        if self._wanted_flags:
            with suppress(PermissionError):  # it belongs to another user
                return self._open_below(inode.path, flags | self._wanted_flags, uid=uid)
        return self._open_below(inode.path, flags, uid=uid)

    def _sleeps(self, inode: Inode, flags: int) -> bool:
        """Return whether open(2) of a file may take long even with O_NONBLOCK."""
        if inode.device in self.overlays:
            if not self.layers.may_be_below(inode, data=True):
                return False
            if flags & _WRITING:
                return True
        if inode.device != self.inodes.device:
            return self.inodes.submounts.devices.get(inode.device) not in LOCAL
        return self._below.sleeps

    def is_short_of_room(self, fd: int) -> bool:
        """Return whether a write may now take room that SOURCE keeps for root."""
        return self._below.reserves and is_short_of_room(fd)

    def _close(self, file: OpenFile) -> None:
        inode = file.inode
        if inode.unlinked and inode.held < 0:
            with suppress(OSError):  # after the close, the object cannot be reached any more
                _ = inode.fd
        del self.files[file.fd]
        self.files_by_inode.remove(file)
        self.inodes.descriptors.shares.give_back(file.uid)
        try:
            os.close(file.fd)
        finally:
            if file.appends:
                self.ends.closed(file.inode)
            self.hooks.by(file.actor).closed(file)

    def _info(self, file: OpenFile) -> FileInfo:
        # Reads of data in the kernel's cache make no request, so they would cause no event.
        keep = self._view.keeps_data and not self.hooks.is_heard(file)
        return FileInfo(
            fh=file.fd, keep_cache=keep, direct_io=self._exact_access and not file.writable
        )

    def _opened(self, inode: Inode, fd: int, flags: int, ctx: RequestContext) -> OpenFile:
        kind = OpenDirectory if inode.is_dir else OpenFile
        actor: Actor = ctx
        core = self.hooks.core
        # When the file is used later, the thread may have ended.
        if core.asks_for_readers or (core.asks_for_processes and flags & _WRITING):
            actor = core.details.process(ctx) or ctx
        file = kind(inode, fd, flags, actor)
        file.direct = bool(flags & os.O_DIRECT) or (self._exact_access and not file.writable)
        self.files[fd] = file
        self.files_by_inode.add(file)
        self.inodes.descriptors.shares.take(ctx.uid)
        if file.appends:
            file.only_appends = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
            self.ends.opened(inode, os.fstat(fd), self._view.attr_timeout)
        if flags & os.O_TRUNC and (end := self.ends.get(inode)) is not None:
            end.set(0)
        self.hooks.by(file.actor).opened(file)
        return file
