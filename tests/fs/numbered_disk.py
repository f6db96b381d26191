# SPDX-License-Identifier: GPL-2.0-or-later
"""A filesystem whose inode numbers the test chooses, to be mounted as SOURCE.

    python numbered_disk.py MNT NUMBER...

It has a file of each number, which is its name in decimal and its content, too,
and an empty directory ``others``.
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

_DIRECTORY = (1 << 62) + 1


class Disk(pyfuse3.Operations):
    def __init__(self, numbers: list[int]) -> None:
        super().__init__()
        self.numbers = numbers

    async def getattr(self, inode: int, ctx: Any = None) -> EntryAttributes:
        answer = EntryAttributes()
        answer.st_ino = pyfuse3.InodeT(inode)
        directory = inode in (pyfuse3.ROOT_INODE, _DIRECTORY)
        answer.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644)
        answer.st_size = len(str(inode))
        answer.st_nlink = 1
        return answer

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> EntryAttributes:
        if name == b"others":
            return await self.getattr(_DIRECTORY)
        if not name.isdigit() or int(name) not in self.numbers:
            raise FUSEError(errno.ENOENT)
        return await self.getattr(int(name))

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return str(fh).encode()[off : off + size]


async def main(mountpoint: str, numbers: list[int]) -> None:
    pyfuse3.init(Disk(numbers), mountpoint, {"fsname=numbered_disk"})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main)
            await trio.to_thread.run_sync(os.stat, mountpoint)
            print("ready", flush=True)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], [int(number) for number in sys.argv[2:]])
