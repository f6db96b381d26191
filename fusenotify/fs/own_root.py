# SPDX-License-Identifier: GPL-2.0-or-later
"""The root of the daemon's own mount, for requests that the daemon makes like a program.

The fence of fs.mount and the process of fs.writeback use it, from threads that may
wait for the mount.  A permanent descriptor would keep the mount busy, so the root
is reached by its path each time.

Invariants
    The root that is returned is that of this mount, wherever it is now, and of
        no other.
    The way to it uses only the kernel's memory, unless the mount is at a place
        where that is not enough, such as below a directory of NFS.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fusenotify.fs.syscalls import open_cached
from fusenotify.mountinfo import mount_of, mount_with_id, said_of


class OwnRoot:
    """The root of the mount with the id number in mountinfo."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._path = b""

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Return a context manager that yields an O_PATH descriptor; the mount is busy in it.

        Raises OSError: ENOENT or EAGAIN if no path leads to the mount, since it is
        unmounted or covered.
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
            raise FileNotFoundError(errno.ENOENT, "the mount was unmounted")
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
    """Open an absolute path with O_PATH, using only the kernel's memory.  Raises OSError."""
    top = os.open("/", os.O_PATH)
    try:
        return open_cached(top, path.strip(b"/") or b".")
    finally:
        os.close(top)
