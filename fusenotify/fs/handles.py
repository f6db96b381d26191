# SPDX-License-Identifier: GPL-2.0-or-later
"""Open files and directories: one descriptor of SOURCE per open description.

fs.operations keeps them by number, which is the descriptor.  FLUSH, READ,
WRITE and RELEASE carry no caller, so who opened is remembered here.
"""

from __future__ import annotations

import os

from fusenotify.engine.hooks import File
from fusenotify.fs.inodes import Inode

# What an open below takes over from the program's flags.  O_APPEND counts at each write
# (fs.appending), O_SYNC and O_DSYNC come as FSYNCs, which let others go on; O_DIRECT would ask for
# aligned buffers, which Python's are not.
_PASSED_ON = os.O_ACCMODE | os.O_TRUNC | os.O_NOATIME


def flags_below(flags: int) -> int:
    """Return the flags with which SOURCE's file is opened."""
    return flags & _PASSED_ON


class OpenFile(File):
    """An open file.

    fd is SOURCE's descriptor; pid, uid and gid are the opener's; appends says
    that it was opened with O_APPEND to be written to.
    """

    __slots__ = ("appends", "fd", "gid", "pid", "uid")

    def __init__(self, inode: Inode, fd: int, flags: int, pid: int, uid: int, gid: int) -> None:
        super().__init__(inode, writable=flags & os.O_ACCMODE != os.O_RDONLY)
        self.appends = bool(flags & os.O_APPEND) and self.writable
        self.fd = fd
        self.pid = pid
        self.uid = uid
        self.gid = gid


class OpenDirectory(OpenFile):
    """An open directory: its entries are read once, and again after a rewind.

    A program that removes what it lists so misses nothing.
    """

    __slots__ = ("entries",)

    entries: list[bytes]

    def snapshot(self) -> None:
        """Read the directory's entries, ``.`` and ``..`` first."""
        names = [os.fsencode(name) for name in os.listdir(self.fd)]
        self.entries = [b".", b"..", *names]
