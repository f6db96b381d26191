# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel is to forget, because it was changed behind the mount.

fs.retelling says what; names wait here until a thread has told the kernel.

Linux: fs/fuse/inode.c fuse_reverse_inval_inode(), fs/fuse/dir.c fuse_reverse_inval_entry().

Invariants
    Attributes are forgotten at once: the kernel takes no lock for it, and reads ask for them
        before they use what was read before, which goes where they are other ones.
    A name is forgotten by a thread: the kernel waits for the lock of its directory, which a
        program may hold whose request the serving thread is to answer.
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
# length of the name, and FUSE_EXPIRE_ONLY, which Linux 6.2 knows and others overlook: the name is
# looked up again at its next use, and stays where it is still that of the same object.
_INVAL_ENTRY = struct.Struct("=IiQQII")
_CODE = 3
_EXPIRE_ONLY = 1
_DEVICE = "/dev/fuse"
# How many names the kernel may remember as nobody's; with one more it forgets them all.
MOST_ABSENT = 100_000
_AGAIN_SECONDS = 0.05
# How many objects it is told to forget in a turn, where it must forget all.
_AT_A_TIME = 256


class Forgetting:
    """Has the kernel forget what it knows of a mount.

    attributes and names count what it was told to forget.  forgets_all says that it is to forget
    more.
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
        self._waiting: dict[tuple[int, bytes], None] = {}
        self._asked = trio.Event()
        self._done = trio.Event()
        self._done.set()
        self._again: list[tuple[int, bytes]] = []
        self._told_once = trio.Event()

    def mounted(self) -> None:
        """The mount is there: from now on the kernel may remember something of it."""
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}") == _DEVICE:
                    self._fd = int(name)

    def inode(self, inode: Inode) -> None:
        """An object has other attributes, or other data: for flush()."""
        if inode.lookups > 0:
            self._inodes.add(inode)

    def absent(self, parent: Inode, name: bytes) -> None:
        """The kernel is told that a name is nobody's, and may remember it."""
        names = self._absent.setdefault(parent.number, set())
        if name not in names:
            names.add(name)
            self._absent_names += 1
            if self._absent_names > MOST_ABSENT:
                self.all_absent()

    def all_absent(self) -> None:
        """Have all those names forgotten."""
        for number, names in self._absent.items():
            for name in names:
                self._forget_soon(number, name)
        self._absent.clear()
        self._absent_names = 0

    def name(self, parent: Inode, name: bytes) -> None:
        """Have a name forgotten, which is another object's than before, or nobody's.

        The kernel may remember it wherever it knows the directory: not all names that it was told
        are known here.
        """
        absent = self._absent.get(parent.number)
        if absent is not None and name in absent:
            absent.remove(name)
            self._absent_names -= 1
        if parent.lookups > 0 or parent.number == pyfuse3.ROOT_INODE:
            self._forget_soon(parent.number, name)

    def _forget_soon(self, number: int, name: bytes) -> None:
        if not self._waiting:
            self._asked.set()
            if self._done.is_set():
                self._done = trio.Event()
        self._waiting[number, name] = None

    def all(self, inodes: Inodes) -> None:
        """Have everything forgotten, some() of it at a time."""
        self.all_absent()
        self._known = inodes.by_number
        self._to_forget = list(inodes.by_number)
        self.forgets_all = True

    def some(self) -> None:
        """Have some of everything forgotten."""
        for _ in range(_AT_A_TIME):
            if not self._to_forget:
                self.forgets_all = False
                break
            inode = self._known.get(self._to_forget.pop())
            if inode is None:
                continue
            self.inode(inode)
            for dentry in inode.aliases():
                if not dentry.unlinked and isinstance(dentry.parent, Inode):
                    self.name(dentry.parent, dentry.name)
        self.flush()

    def flush(self) -> None:
        """Have the attributes forgotten of what inode() was said of."""
        if not self._inodes:
            return
        for inode in self._inodes:
            if inode.lookups > 0:
                self.attributes += 1
                with suppress(OSError):  # it is being forgotten, or unmounted meanwhile
                    pyfuse3.invalidate_inode(pyfuse3.InodeT(inode.number), attr_only=True)
        self._inodes.clear()

    async def done(self) -> None:
        """Return when the names are forgotten that name() was said of before."""
        await self._done.wait()

    async def run(self) -> None:
        """Have names forgotten, for ever."""
        async with trio.open_nursery() as helpers:
            helpers.start_soon(self._run_again)
            await self._run()

    async def _run_again(self) -> None:
        """Have names forgotten a second time: the kernel may have had an answer of before."""
        while True:
            await self._told_once.wait()
            self._told_once = trio.Event()
            batch, self._again = self._again, []
            await trio.sleep(_AGAIN_SECONDS)
            await trio.to_thread.run_sync(self._forget, batch, abandon_on_cancel=True)

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            batch, self._waiting = self._waiting, {}
            done = self._done
            self.names += len(batch)
            self._again += batch
            self._told_once.set()
            try:
                await trio.to_thread.run_sync(self._forget, list(batch), abandon_on_cancel=True)
            finally:
                if not self._waiting:
                    done.set()

    def _forget(self, names: list[tuple[int, bytes]]) -> None:
        for number, name in names:
            length = _INVAL_ENTRY.size + len(name) + 1
            notice = _INVAL_ENTRY.pack(length, _CODE, 0, number, len(name), _EXPIRE_ONLY)
            with suppress(OSError):  # the kernel does not know it, or it was unmounted meanwhile
                os.write(self._fd, notice + name + b"\0")
