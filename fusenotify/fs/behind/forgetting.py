# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the kernel forget what was changed behind the mount.

behind.retelling says what was changed; names and data wait here until a thread has told the kernel.

Linux: fs/fuse/inode.c fuse_reverse_inval_inode(), fs/fuse/dir.c fuse_reverse_inval_entry().

Invariants
    The kernel is told at once to forget attributes, for which it takes no lock.  Reads ask for
        the attributes before they use cached data, and drop the data if these have changed.  The
        attributes may be the same after a change: programs set times, and clocks have ticks.  So
        the data is forgotten, too.
    A thread tells the kernel to forget names and data.  For these the kernel waits for the locks
        of the name's directory or of the pages, and a program that waits for the serving thread
        may hold them.
    Programs and mounts that are in a directory stay there if its name does.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from contextlib import suppress

import pyfuse3
import trio

from fusenotify.fs.inodes import Inode, Inodes

# FUSE_NOTIFY_INVAL_ENTRY: fuse_out_header, then fuse_notify_inval_entry_out with the parent, the
# length of the name, and flags.
_INVAL_ENTRY = struct.Struct("=IiQQII")
_ENTRY = 3
# The flags: a name is dropped.  With FUSE_EXPIRE_ONLY (since Linux 6.2, earlier ignored) it is
# looked up again at its next use, and kept if it still belongs to the same object.
_DROP = 0
_EXPIRE_ONLY = 1
# FUSE_NOTIFY_INVAL_INODE: fuse_out_header, then fuse_notify_inval_inode_out with the inode, and the
# offset and length of the data; the length 0 stands for all of it.
_INVAL_INODE = struct.Struct("=IiQQqq")
_INODE = 2
# In place of a name: the data of an object.
_DATA = b""
_DEVICE = "/dev/fuse"
# How many missing names the kernel may remember; with one more, it is told to forget them all.
MOST_ABSENT = 100_000
_AGAIN_SECONDS = 0.05
# How many objects it is told to forget in a turn if it must forget all.
_AT_A_TIME = 256


class _Batch:
    """Names and data that the kernel is told to forget at once.

    names maps numbers of directories and names in them, or numbers of files and _DATA, to flags.
    expired has those of them that are told again, once told is set.
    """

    def __init__(self) -> None:
        self.names: dict[tuple[int, bytes], int] = {}
        self.expired: dict[tuple[int, bytes], int] = {}
        self.told, self.told_again = trio.Event(), trio.Event()


class Forgetting:
    """Makes the kernel forget what it remembers of a mount.

    attributes and names count what it was told to forget; names counts data, too.  forgets_all is
    true while all() is not finished: call some().
    """

    def __init__(self) -> None:
        self.attributes = self.names = 0
        self._fd = -1
        self._inodes: set[Inode] = set()
        self._absent: dict[int, set[bytes]] = {}
        self._absent_names = 0
        self._known: Mapping[int, Inode] = {}
        self._to_forget: list[int] = []
        self.forgets_all = False
        self._waiting = _Batch()
        self._last = _Batch()
        self._last.told.set()
        self._again: list[_Batch] = []
        self._asked, self._asked_again = trio.Event(), trio.Event()

    def mounted(self) -> None:
        """Note that the mount exists: find its descriptor of /dev/fuse."""
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}") == _DEVICE:
                    self._fd = int(name)

    def inode(self, inode: Inode) -> None:
        """Note that attributes or data of an object have changed; flush() tells the kernel."""
        if inode.lookups > 0:
            self._inodes.add(inode)

    def data(self, inode: Inode) -> None:
        """Make the kernel forget the data of a file, of which a mapping may be in use."""
        if inode.lookups > 0:
            self._forget_soon(inode.number, _DATA, _DROP)

    def absent(self, parent: Inode, name: bytes) -> None:
        """Note that the kernel is told that a name does not exist, and may remember that."""
        names = self._absent.setdefault(parent.number, set())
        if name not in names:
            names.add(name)
            self._absent_names += 1
            if self._absent_names > MOST_ABSENT:
                self.all_absent()

    def all_absent(self) -> None:
        """Make the kernel forget all missing names."""
        for number, names in self._absent.items():
            for name in names:
                self._forget_soon(number, name, _DROP)
        self._absent.clear()
        self._absent_names = 0

    def name(self, parent: Inode, name: bytes, *, may_stay: bool) -> None:
        """Make the kernel forget a name that belongs to another object than before, or to none.

        The kernel may remember any name in a directory that it knows, also names that are not
        known here any more.  may_stay says that the kernel may know the new object by that name,
        or that programs may be in the old one, a directory.
        """
        absent = self._absent.get(parent.number)
        if absent is not None and name in absent:
            absent.remove(name)
            self._absent_names -= 1
        if parent.lookups > 0 or parent.number == pyfuse3.ROOT_INODE:
            self._forget_soon(parent.number, name, _EXPIRE_ONLY if may_stay else _DROP)

    def _forget_soon(self, number: int, name: bytes, flags: int) -> None:
        names = self._waiting.names
        names[number, name] = flags & names.get((number, name), flags)
        self._asked.set()

    def all(self, inodes: Inodes) -> None:
        """Make the kernel forget everything; some() does a part of it at a time."""
        self.all_absent()
        self._known = inodes.by_number
        self._to_forget = list(inodes.by_number)
        self.forgets_all = True

    def some(self) -> None:
        """Do the next part of what all() began."""
        for _ in range(_AT_A_TIME):
            if not self._to_forget:
                self.forgets_all = False
                break
            inode = self._known.get(self._to_forget.pop())
            if inode is None:
                continue
            self.inode(inode)
            if not inode.is_dir:
                self.data(inode)
            for dentry in inode.aliases():
                if not dentry.unlinked and isinstance(dentry.parent, Inode):
                    self.name(dentry.parent, dentry.name, may_stay=True)
        self.flush()

    def flush(self) -> None:
        """Make the kernel forget the attributes of the objects that inode() noted."""
        if not self._inodes:
            return
        for inode in self._inodes:
            if inode.lookups > 0:
                self.attributes += 1
                with suppress(OSError):  # the kernel is forgetting it, or the mount is gone
                    pyfuse3.invalidate_inode(pyfuse3.InodeT(inode.number), attr_only=True)
        self._inodes.clear()

    async def done(self) -> None:
        """Wait until the kernel has forgotten the names and data that were noted before."""
        batch = self._waiting if self._waiting.names else self._last
        await batch.told.wait()
        if batch.expired:
            await batch.told_again.wait()

    async def run(self) -> None:
        """Tell the kernel to forget names and data, for ever."""
        async with trio.open_nursery() as helpers:
            helpers.start_soon(self._run_again)
            await self._run()

    async def _run_again(self) -> None:
        """Tell it names a second time that were only to expire.

        A program that looked the name up may not have processed the answer the first time; then
        it renews the old name.
        """
        while True:
            await self._asked_again.wait()
            self._asked_again = trio.Event()
            batches, self._again = self._again, []
            await trio.sleep(_AGAIN_SECONDS)
            for batch in batches:
                await self._tell(batch.expired)
                batch.told_again.set()

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            batch = self._last = self._waiting
            self._waiting = _Batch()
            self.names += len(batch.names)
            await self._tell(batch.names)
            batch.expired = {each: flags for each, flags in batch.names.items() if flags}
            batch.told.set()
            if batch.expired:
                self._again.append(batch)
                self._asked_again.set()

    async def _tell(self, names: dict[tuple[int, bytes], int]) -> None:
        await trio.to_thread.run_sync(self._forget, names, abandon_on_cancel=True)

    def _forget(self, names: dict[tuple[int, bytes], int]) -> None:
        for (number, name), flags in names.items():
            if name == _DATA:
                notice = _INVAL_INODE.pack(_INVAL_INODE.size, _INODE, 0, number, 0, 0)
            else:
                length = _INVAL_ENTRY.size + len(name) + 1
                notice = _INVAL_ENTRY.pack(length, _ENTRY, 0, number, len(name), flags)
                notice += name + b"\0"
            with suppress(OSError):  # the kernel does not know it, or the mount is gone
                os.write(self._fd, notice)
