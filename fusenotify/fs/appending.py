# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the kernel takes the end of a file to be, for files that are open with O_APPEND.

The kernel sends an append as a WRITE at the end that it knows.  A descriptor of
SOURCE with O_APPEND would put every WRITE at the end, those also that have
their place elsewhere: pages of a mapping that are written back, and what is
written after F_SETFL has taken the flag off, which the filesystem is not told.
So no descriptor of ours has the flag but for an append-only file (chattr +a),
of which nothing else is written; and a WRITE appends where it begins at the end
that the kernel knows: pages that are written back begin before it.  Where
somebody appends to SOURCE meanwhile, that end is not SOURCE's, and pwritev2(2)
finds SOURCE's own.

fs.file_requests and fs.requests say here what the kernel is told.

Invariants
    A file is in the table while a descriptor with O_APPEND is open, no longer.
    For whoever changes files through the mount only, every WRITE is put where
        its offset says.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pyfuse3

from fusenotify.engine import core
from fusenotify.fs.inodes import Inode

_NANOSECONDS = 10**9
_PAGE = os.sysconf("SC_PAGE_SIZE")


class End:
    """The end of one file.

    at is where the kernel takes it to be, and before where it took it to be
    before SOURCE was found to have another: an answer that comes while a write
    is under way changes nothing in the kernel.  openers counts the descriptors
    with O_APPEND.
    """

    __slots__ = ("at", "before", "openers")

    def __init__(self, at: int) -> None:
        self.at = self.before = at
        self.openers = 0

    def is_at(self, offset: int) -> bool:
        """Return whether a WRITE at offset, of a descriptor with O_APPEND, appends."""
        return offset == self.at or offset == self.before

    def set(self, at: int) -> None:
        """The kernel has it there now."""
        self.at = self.before = at

    def read(self, offset: int, size: int) -> None:
        """The kernel read pages.

        It reads none that begins at the end or behind it.  So it knows of a later end,
        and a WRITE at the one before is such a page, written back.
        """
        if offset + size >= self.before + _PAGE:
            self.before = self.at

    def told(self, at: int) -> None:
        """The kernel is told that it is there."""
        if at != self.at:
            self.before, self.at = self.at, at

    def written(self, offset: int, size: int, appended: bool) -> None:
        """A WRITE was done."""
        if appended or offset + size > self.at:
            self.set(offset + size)


class Ends(dict[core.Inode, End]):
    """The ends of the files that are open to append to."""

    def opened(self, inode: core.Inode, status: os.stat_result, attr_timeout: float) -> None:
        """A descriptor with O_APPEND is about to be opened; status is its file's.

        Where the file was changed within attr_timeout seconds, the kernel may
        remember an end of before, and is told of a later one.
        """
        assert isinstance(inode, Inode)
        end = self.get(inode)
        if end is None:
            end = self[inode] = End(status.st_size)
            if end.at and time.time_ns() - status.st_ctime_ns < (attr_timeout + 1) * _NANOSECONDS:
                with suppress(OSError):  # the kernel does not know the file yet
                    pyfuse3.notify_store(pyfuse3.InodeT(inode.number), status.st_size, b"")
        end.openers += 1

    def closed(self, inode: core.Inode) -> None:
        """One of those descriptors is closed."""
        end = self[inode]
        end.openers -= 1
        if not end.openers:
            del self[inode]


def append(fd: int, data: bytes, offset: int) -> int:
    """Write data at the end of fd's file, wherever that is by now; offset does not count.

    Raises OSError.
    """
    return os.pwritev(fd, (data,), offset, os.RWF_APPEND)
