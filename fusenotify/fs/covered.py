# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories of the mount that other filesystems cover, which nobody sees by their paths.

fs.paths asks at each step of a client's path.  Only the daemon's own mount
namespace is seen: what a container covers for itself is for its clients to
see, as client.locate does.

Invariants
    Nothing is opened by path: mountinfo is open from the beginning on, and
        read again where the kernel says that it changed.
    To find what is covered takes one call for each mount, however deep: a user
        may have fusermount3 mount a thousand.
    What is covered is remembered as an object, for a directory above it may
        be renamed, and the kernel says nothing then.
"""

from __future__ import annotations

import os
import select

from fusenotify import mountinfo
from fusenotify.fs.syscalls import open_beneath

_CHUNK = 64 * 1024


class Covered:
    """What is covered in the mount that has an id.  root_fd is a descriptor of SOURCE."""

    def __init__(self, mount: mountinfo.Mount, root_fd: int) -> None:
        self._mount = mount
        self._root_fd = root_fd
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY)
        self._changes = select.poll()
        self._changes.register(self._table, select.POLLPRI)
        self._objects = self._look()

    def objects(self) -> frozenset[tuple[int, int]]:
        """Return the (st_dev, st_ino) of what is covered."""
        if self._changes.poll(0):
            self._objects = self._look()
        return self._objects

    def close(self) -> None:
        """Close mountinfo."""
        os.close(self._table)

    def _look(self) -> frozenset[tuple[int, int]]:
        os.lseek(self._table, 0, os.SEEK_SET)
        text = b""
        while part := os.read(self._table, _CHUNK):
            text += part
        found = set()
        for mount in mountinfo.parse(text):
            if mount.parent == self._mount.id and mount.id != self._mount.id:
                try:
                    found.add(self._object(self._mount.inner_path(mount.mountpoint)))
                except (OSError, ValueError):
                    continue  # gone behind the mount, or where we cannot see it
        return frozenset(found)

    def _object(self, inner_path: bytes) -> tuple[int, int]:
        """Return the (st_dev, st_ino) of a path without links in SOURCE."""
        fd = open_beneath(self._root_fd, inner_path.strip(b"/") or b".")
        try:
            status = os.fstat(fd)
            return status.st_dev, status.st_ino
        finally:
            os.close(fd)
