# SPDX-License-Identifier: GPL-2.0-or-later
"""The inodes that the kernel or a watch knows, each held by a descriptor.

fs.operations looks names up here and hands FORGETs on.  Nothing is remembered
by path: an O_PATH descriptor reaches the object wherever it is renamed to, and
keeps its number from being given to another.

Invariants
    One Inode per (st_dev, st_ino), however many names it has.
    An inode is known while the kernel has lookups of it, a watch or a request
        in progress pins it, or one of its children is known; then its
        descriptor is closed.
"""

from __future__ import annotations

import os
import stat

from fusenotify.engine import core
from fusenotify.fs.syscalls import path_of

ROOT_NUMBER = 1
# How an object is held: without reading it, and not what a link points to.
HOLD = os.O_PATH | os.O_NOFOLLOW
# Where numbers of other filesystems below SOURCE begin: each gets a range.
_RANGE_BITS = 56


class Inode(core.Inode):
    """An object of SOURCE.

    fd is its O_PATH descriptor; number the inode number that programs see and
    the kernel's name for it; lookups the kernel's references (the lookup
    count), pins those of watches and of requests in progress.
    """

    __slots__ = ("fd", "key", "lookups", "number", "pins", "table")

    def __init__(
        self, table: Inodes, fd: int, key: tuple[int, int], number: int, is_dir: bool
    ) -> None:
        super().__init__(is_dir)
        self.table = table
        self.fd = fd
        self.key = key
        self.number = number
        self.lookups = 0
        self.pins = 0

    @property
    def path(self) -> str:
        """A path to the object itself, for calls that take no descriptor."""
        return path_of(self.fd)

    def pin(self) -> None:
        self.pins += 1

    def unpin(self) -> None:
        self.pins -= 1
        self.table.drop_if_unused(self)


class Inodes:
    """The table of known inodes.

    root_fd is an O_PATH descriptor of SOURCE and belongs to the table from now on.
    """

    def __init__(self, root_fd: int, names: core.Core) -> None:
        self._names = names
        self._by_key: dict[tuple[int, int], Inode] = {}
        self._by_number: dict[int, Inode] = {}
        self._device_ranges: dict[int, int] = {}
        status = os.fstat(root_fd)
        self._device = status.st_dev
        self.root = self._add(root_fd, status, ROOT_NUMBER)
        self.root.pin()

    def __getitem__(self, number: int) -> Inode:
        return self._by_number[number]

    def __len__(self) -> int:
        return len(self._by_number)

    def all(self) -> list[Inode]:
        """Return the known inodes, in the order in which they became known."""
        return list(self._by_number.values())

    def lookup(self, parent: Inode, name: bytes) -> tuple[Inode, os.stat_result]:
        """Return the object of a name, and its attributes; it is known from now on.

        Who keeps it counts a lookup or pins it; who does not, drops it.

        Raises OSError as fstatat(2).
        """
        status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        inode = self._by_key.get((status.st_dev, status.st_ino))
        if inode is None:
            inode, status = self.take(os.open(name, HOLD, dir_fd=parent.fd))
        self._names.instantiate(parent, name, inode)
        return inode, status

    def take(self, fd: int) -> tuple[Inode, os.stat_result]:
        """Return the object of an O_PATH descriptor, which now belongs to the table."""
        status = os.fstat(fd)
        inode = self._by_key.get((status.st_dev, status.st_ino))
        if inode is not None:
            os.close(fd)
            return inode, status
        return self._add(fd, status, self._number(status)), status

    def forget(self, number: int, lookups: int) -> None:
        """The kernel gives lookups back.  FUSE: FORGET."""
        inode = self._by_number.get(number)
        if inode is not None:
            inode.lookups -= lookups
            self.drop_if_unused(inode)

    def drop_if_unused(self, inode: Inode) -> None:
        """Let go of an inode that nobody holds, and of parents it held."""
        if inode.lookups > 0 or inode.pins or inode.children or inode.number not in self._by_number:
            return
        del self._by_key[inode.key], self._by_number[inode.number]
        for dentry in inode.aliases:
            if dentry.unlinked:
                continue
            self._names.unhash(dentry)
            parent = dentry.parent
            assert isinstance(parent, Inode)
            self.drop_if_unused(parent)
        os.close(inode.fd)

    def close(self) -> None:
        """Close all descriptors; the table is of no use afterwards."""
        for inode in self._by_number.values():
            os.close(inode.fd)
        self._by_key.clear()
        self._by_number.clear()

    def _add(self, fd: int, status: os.stat_result, number: int) -> Inode:
        key = (status.st_dev, status.st_ino)
        inode = Inode(self, fd, key, number, stat.S_ISDIR(status.st_mode))
        self._by_key[key] = self._by_number[number] = inode
        return inode

    def _number(self, status: os.stat_result) -> int:
        """Return the disk's inode number, made unique where SOURCE has several filesystems."""
        if status.st_dev == self._device and status.st_ino != ROOT_NUMBER:
            return status.st_ino
        ranges = self._device_ranges
        return (ranges.setdefault(status.st_dev, len(ranges) + 1) << _RANGE_BITS) + status.st_ino
