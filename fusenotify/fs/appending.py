# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a file as the kernel knows it, for files that are open with O_APPEND.

The kernel sends an append as a WRITE at the end that it knows.  If our descriptor
of SOURCE had O_APPEND, every WRITE would go to the end, even one with another
place: pages of a mapping that are written back, and data written after F_SETFL
has removed the flag, which the filesystem is not told.  So no descriptor of ours
has the flag, except for an append-only file (chattr +a), to which nothing else
can be written.  Instead, a WRITE appends if it begins at the end that the kernel
knows; pages that are written back begin before it.  If somebody has appended to
SOURCE directly, that end is not the end of SOURCE's file; pwritev2(2) finds the
right one.

fs.file_requests and fs.requests report here what the kernel knows.

Invariants
    A file is in the table exactly as long as a descriptor with O_APPEND is
        open.
    If files are changed only through the mount, every WRITE goes to its offset.
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
    """The end of one file, in bytes.

    at is the end that the kernel was told last, and before the one that it was
    told earlier, if SOURCE's file turned out to have another end: the kernel may
    still use that, since it ignores an answer that comes during a write.  openers
    counts the descriptors with O_APPEND.
    """

    __slots__ = ("at", "before", "openers")

    def __init__(self, at: int) -> None:
        self.at = self.before = at
        self.openers = 0

    def is_at(self, offset: int) -> bool:
        """Return whether a WRITE at offset, of a descriptor with O_APPEND, appends."""
        return offset == self.at or offset == self.before

    def set(self, at: int) -> None:
        """Record the end that the kernel is known to have."""
        self.at = self.before = at

    def read(self, offset: int, size: int) -> None:
        """Record that the kernel read pages.

        It reads no page that begins at the end or after it.  So if it reads a page
        after the earlier end, it knows the later end; a WRITE at the earlier end is
        then a page that is written back.
        """
        if offset + size >= self.before + _PAGE:
            self.before = self.at

    def told(self, at: int) -> None:
        """Record that the kernel is told of this end."""
        if at != self.at:
            self.before, self.at = self.at, at

    def written(self, offset: int, size: int, appended: bool) -> None:
        """Record a WRITE, which either appended or not."""
        if appended or offset + size > self.at:
            self.set(offset + size)


class Ends(dict[core.Inode, End]):
    """The ends of the files that are open for appending."""

    def opened(self, inode: core.Inode, status: os.stat_result, attr_timeout: float) -> None:
        """Record that a descriptor with O_APPEND is opened; status is that of its file.

        If the file was changed within the last attr_timeout seconds, the kernel may
        remember an earlier end, and is told of the present one.
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
        """Record that one of those descriptors is closed."""
        end = self[inode]
        end.openers -= 1
        if not end.openers:
            del self[inode]


def append(fd: int, data: bytes, offset: int) -> int:
    """Write data at the end of fd's file, wherever that is now; offset is ignored.

    Raises OSError.
    """
    return os.pwritev(fd, (data,), offset, os.RWF_APPEND)
