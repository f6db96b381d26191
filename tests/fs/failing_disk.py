# SPDX-License-Identifier: GPL-2.0-or-later
"""A filesystem whose disk is slow or broken at the test's wish, to be mounted as SOURCE.

    python failing_disk.py MNT

A file ``f`` whose content is in memory, ``late``, which is slow to open, and any
with a number from 10 as its name.  What happens is said in lines on stdout; the
test answers in bytes on stdin: each fsync, and each open of ``late``, waits for
one.  Reads beyond BROKEN, and writes there, fail with EIO; so does close(2)
where LOST was written at the beginning.
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

BROKEN = 1 << 20
LOST = b"lost"
_NUMBERS = {b"f": 2, b"late": 3}
# All that a test lets wait at a time, and some more.
_TASKS = 300


class Disk(pyfuse3.Operations):
    def __init__(self) -> None:
        super().__init__()
        self.content = bytearray()
        self._limiter = trio.CapacityLimiter(_TASKS)

    async def getattr(self, inode: int, ctx: Any = None) -> EntryAttributes:
        answer = EntryAttributes()
        answer.st_ino = pyfuse3.InodeT(inode)
        directory = inode == pyfuse3.ROOT_INODE
        answer.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644)
        answer.st_size = 0 if directory else max(len(self.content), 2 * BROKEN)
        answer.st_nlink = 1
        return answer

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> EntryAttributes:
        number = int(name) if name.isdigit() else _NUMBERS.get(name)
        if number is None:
            raise FUSEError(errno.ENOENT)
        return await self.getattr(number)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if inode == _NUMBERS[b"late"]:
            print("open", flush=True)
            await self._wait()
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        if off >= BROKEN:
            raise FUSEError(errno.EIO)
        return bytes(self.content[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        if off >= BROKEN:
            raise FUSEError(errno.EIO)
        self.content[off : off + len(buf)] = buf
        return len(buf)

    async def flush(self, fh: int) -> None:
        if self.content.startswith(LOST):
            raise FUSEError(errno.EIO)

    async def fsync(self, fh: int, datasync: bool) -> None:
        print("fsync", flush=True)
        await self._wait()

    async def _wait(self) -> None:
        await trio.to_thread.run_sync(os.read, 0, 1, limiter=self._limiter)


async def main(mountpoint: str) -> None:
    pyfuse3.init(Disk(), mountpoint, {"fsname=failing_disk"})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main, 1, _TASKS)
            await trio.to_thread.run_sync(os.stat, mountpoint)
            print("ready", flush=True)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
