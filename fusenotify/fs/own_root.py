# SPDX-License-Identifier: GPL-2.0-or-later
"""The root of the daemon's own mount, for what comes to it as a program does.

fs.mount's fence and fs.writeback's process use it, from threads that may wait
for the mount.  A descriptor that was kept would keep the mount busy, so each
time it is reached by its path.

Invariants
    What is returned is of this mount, wherever it is by now, and of no other.
    On the way nobody is asked but the kernel's memory, unless the mount is really
        where that does not suffice, as below a directory of NFS.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fusenotify.fs.syscalls import open_cached
from fusenotify.mountinfo import mount_of, mount_with_id, said_of


class OwnRoot:
    """The root of a mount that has the id number in mountinfo."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._path = b""

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Return a block with a descriptor (O_PATH) of it, in which the mount is busy.

        Raises OSError, ENOENT or EAGAIN where no path leads to it: unmounted, or covered.
        """
        fd = self._open()
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self) -> int:
        if self._path:
            with suppress(OSError):
                return self._ours(_reached(self._path))
        mount = mount_with_id(self._number)
        if mount is None:
            raise FileNotFoundError(errno.ENOENT, "the mount was taken away")
        self._path = mount.mountpoint
        try:
            return self._ours(_reached(self._path))
        except BlockingIOError:
            uppermost = mount_of(self._path)
            if uppermost is None or uppermost.id != self._number:
                raise
        return self._ours(os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW))

    def _ours(self, fd: int) -> int:
        if said_of(fd, "mnt_id") != self._number:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "another mount covers it")
        return fd


def _reached(path: bytes) -> int:
    """Open an absolute path (O_PATH) that the kernel has in its memory.  Raises OSError."""
    top = os.open("/", os.O_PATH)
    try:
        return open_cached(top, path.strip(b"/") or b".")
    finally:
        os.close(top)
