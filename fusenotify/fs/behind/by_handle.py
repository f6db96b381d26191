# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects by the file handles that records have, and the handles of objects.

behind.whereabouts adds the places of directories that are not known.

Invariant
    A handle belongs to a known object only if that has the same handle, byte by byte, because
        inode numbers are used again.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from fusenotify.engine import core
from fusenotify.fs.behind.fanotify import Fanotify, Record
from fusenotify.fs.file_handles import HOLD
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.syscalls import handle_of_name, open_by_handle

# ext4 says ENOMEM while the inode number of a removed object is given to a new one.
_IS_GONE = (errno.ESTALE, errno.ENOMEM)
_FSID_BYTES = 8


class ByHandle:
    """Finds objects of a table of inodes by handle, and opens others if there is an anchor."""

    def __init__(self, inodes: Inodes, fanotify: Fanotify) -> None:
        self._inodes = inodes
        self._fanotify = fanotify
        self._anchors: dict[int, int] = {}

    def anchor(self, device: int, fd: int) -> None:
        """Allow opening objects of a filesystem by handle; fd is a directory in it.

        Raises OSError.
        """
        self._anchors[device] = os.open(
            b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd
        )

    def forget(self, device: int) -> None:
        """Forget a filesystem that does not belong to SOURCE any more."""
        anchor = self._anchors.pop(device, None)
        if anchor is not None:
            os.close(anchor)

    def close(self) -> None:
        for anchor in self._anchors.values():
            os.close(anchor)
        self._anchors.clear()

    def known(self, handle: bytes | None) -> Inode | None:
        """Return the known object that has a handle; None if there is none."""
        if handle is None:
            return None
        disk = self._fanotify.disks.get(int.from_bytes(handle[:_FSID_BYTES], sys.byteorder))
        if disk is None:
            return None
        inode = self._inodes.with_number(disk.device, disk.ino(handle))
        if inode is None:
            return None
        if inode.handle is None and inode.held >= 0:
            inode.handle = self._inodes.descriptors.handles.of(inode.held)
        return inode if inode.handle == handle[_FSID_BYTES:] else None

    def opened(self, handle: bytes) -> Inode | None:
        """Return the object with a handle, known or not; None if it does not exist.

        The caller drops it if it does not keep it (Inodes.drop_if_unused).  Raises OSError.
        """
        found = self.known(handle)
        if found is not None:
            return found
        fd = self._open(handle)
        return None if fd < 0 else self._inodes.take(fd)[0]

    def changed(self, echo: Record, given: core.Inode) -> core.Inode:
        """Return the object that a request changed: given, unless the echo names another one.

        Returns a stand-in if that other one is gone.
        """
        handle = echo.target
        if handle is None or (isinstance(given, Inode) and self.handle_of(given) == handle):
            return given
        found: Inode | None = None
        with suppress(OSError):
            found = self.opened(handle)
        return found or core.Inode(echo.is_dir)

    def handle_of(self, inode: Inode) -> bytes | None:
        """Return the handle of an object as in records; None if it has none."""
        with suppress(OSError):
            return self._fanotify.key(inode.fd, inode.device)
        return None

    def handle_at(self, directory: Inode, name: bytes) -> bytes | None:
        """Return the handle of the object that has a name now; None if there is none."""
        fsid = self._fanotify.fsids.get(directory.device)
        if fsid is None:
            return None
        try:
            return fsid + handle_of_name(directory.fd, name)
        except OSError:
            return None

    def is_gone(self, handle: bytes) -> bool:
        """Return whether an object has no name any more."""
        known = self.known(handle)
        with suppress(OSError):
            if known is not None:
                return not os.fstat(known.fd).st_nlink
            fd = self._open(handle)
            if fd >= 0:
                try:
                    return not os.fstat(fd).st_nlink
                finally:
                    os.close(fd)
        return True

    def _open(self, handle: bytes) -> int:
        """Return a new descriptor of an object; -1 if it cannot be opened, or is gone.

        Raises OSError.
        """
        disk = self._fanotify.disks.get(int.from_bytes(handle[:_FSID_BYTES], sys.byteorder))
        anchor = -1 if disk is None else self._anchors.get(disk.device, -1)
        if anchor < 0:
            return -1
        try:
            return open_by_handle(anchor, handle[_FSID_BYTES:], HOLD)
        except OSError as error:
            if error.errno in _IS_GONE:
                return -1
            raise
