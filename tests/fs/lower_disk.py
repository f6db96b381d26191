# SPDX-License-Identifier: GPL-2.0-or-later
"""A filesystem to be the lower layer of an overlay, whose objects are copied when the test says so.

    python lower_disk.py MNT

In ``b`` are two directories ``d`` and ``e``, in each of which are a file ``f``, one file by its
two names ``h`` and ``i``, a symbolic link ``s``, a fifo ``p`` and a directory ``d``.  What is
copied up has its attributes listed: that is said in a line on stdout, with the object's number, and
waits for a byte on stdin, as on a disk where it lasts; but for ``b``.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Any

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError

CONTENT = b"from below"
# What all objects have.
ATTRIBUTE = b"trusted.below"
# By name: the number in a directory, what it is, and how many names it has.
_OBJECTS = {
    b"f": (1, stat.S_IFREG | 0o644, 1),
    b"h": (2, stat.S_IFREG | 0o644, 2),
    b"i": (2, stat.S_IFREG | 0o644, 2),
    b"s": (3, stat.S_IFLNK | 0o777, 1),
    b"p": (4, stat.S_IFIFO | 0o644, 1),
    b"d": (5, stat.S_IFDIR | 0o755, 2),
}
_BY_NUMBER = {number: (mode, links) for number, mode, links in _OBJECTS.values()}
_BASE = 50
_DIRECTORIES = {b"d": 100, b"e": 200}


class Disk(pyfuse3.Operations):
    def __init__(self) -> None:
        super().__init__()
        self._asked: set[int] = set()

    async def getattr(self, inode: int, ctx: Any = None) -> EntryAttributes:
        which = inode % 100 if inode > _BASE else 0
        mode, links = _BY_NUMBER.get(which, (stat.S_IFDIR | 0o755, 2))
        answer = EntryAttributes()
        answer.st_ino = pyfuse3.InodeT(inode)
        answer.st_mode = pyfuse3.ModeT(mode)
        answer.st_nlink = links
        answer.st_size = len(CONTENT) if stat.S_ISREG(mode) else 0
        answer.entry_timeout = answer.attr_timeout = 100
        return answer

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> EntryAttributes:
        if parent_inode == pyfuse3.ROOT_INODE and name == b"b":
            return await self.getattr(_BASE)
        if parent_inode == _BASE and name in _DIRECTORIES:
            return await self.getattr(_DIRECTORIES[name])
        if parent_inode in _DIRECTORIES.values() and name in _OBJECTS:
            return await self.getattr(parent_inode + _OBJECTS[name][0])
        raise FUSEError(errno.ENOENT)

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = 4096
        answer.f_namemax = 255
        return answer

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return b"f"

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return CONTENT[off : off + size]

    async def opendir(self, inode: int, ctx: Any) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        return

    async def listxattr(self, inode: int, ctx: Any) -> list[bytes]:
        if inode == _BASE:
            pass
        elif inode in self._asked:  # first comes how long the list is
            self._asked.remove(inode)
        else:
            self._asked.add(inode)
            print(inode, flush=True)
            await trio.to_thread.run_sync(sys.stdin.buffer.read, 1)
        return [ATTRIBUTE]

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        if name == ATTRIBUTE:
            return b"below"
        raise FUSEError(errno.ENODATA)


async def main(mountpoint: str) -> None:
    pyfuse3.init(Disk(), mountpoint, {"fsname=lower_disk"})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main)
            await trio.to_thread.run_sync(os.stat, mountpoint)
            print("ready", flush=True)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
