# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories of the mount that other filesystems cover, so that no path leads to them.

fs.paths checks this at each step of a client's path.  It knows only the daemon's
own mount namespace: clients in a container have to notice themselves what is
covered there, as client.locate does.

Invariants
    Nothing is opened by path: mountinfo is open from the beginning on, and is
        read again when the kernel says that it has changed.
    Each mount takes one call, however deep it is: a user may make a thousand
        mounts with fusermount3.
    A covered directory is remembered as an object, not by its path: a directory
        above it may be renamed, which the kernel does not report.
"""

from __future__ import annotations

import os
import select

from fusenotify import mountinfo
from fusenotify.fs.syscalls import open_beneath

_CHUNK = 64 * 1024


class Covered:
    """The covered directories and files of a mount.  root_fd is a descriptor of SOURCE."""

    def __init__(self, mount: mountinfo.Mount, root_fd: int) -> None:
        self._mount = mount
        self._root_fd = root_fd
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY)
        self._changes = select.poll()
        self._changes.register(self._table, select.POLLPRI)
        self._objects = self._look()

    def objects(self) -> frozenset[tuple[int, int]]:
        """Return the (st_dev, st_ino) of the covered objects."""
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
                    continue  # removed behind the mount, or not visible to us
        return frozenset(found)

    def _object(self, inner_path: bytes) -> tuple[int, int]:
        """Return the (st_dev, st_ino) at a path in SOURCE that has no symbolic links."""
        fd = open_beneath(self._root_fd, inner_path.strip(b"/") or b".")
        try:
            status = os.fstat(fd)
            return status.st_dev, status.st_ino
        finally:
            os.close(fd)
