# SPDX-License-Identifier: GPL-2.0-or-later
"""Which known object a descriptor is of, where st_dev and st_ino do not tell.

fs.inodes asks.  On the disks of _EXACT the pair is the object.  Elsewhere it
need not be: on overlayfs two names of a file in a lower layer share a pair, but
become files of their own as soon as one is written to, and whatever is copied
up may get another pair; some network and FUSE filesystems make numbers up.
There the kernel's own inode counts, as it does for programs that work without
a mount in between.  inotify tells which that is: two watches on one inode are
one, with one watch descriptor.

Invariants
    A kind of filesystem that is not listed here is not trusted.
    A watch lives as long as its object is known.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from fusenotify.fs.syscalls import filesystem_type, inotify, path_of, unwatch, watch

# statfs(2)'s f_type: of overlayfs; of btrfs, ext2 to ext4, f2fs, ramfs, tmpfs, xfs.
_OVERLAY = 0x794C7630
_EXACT = frozenset([0x9123683E, 0xEF53, 0xF2F52010, 0x858458F6, 0x01021994, 0x58465342])
_RECORDS = 4096  # bytes, of events that nobody needs


_T = TypeVar("_T", bound=Hashable)


class Identity(Generic[_T]):
    """The filesystems below SOURCE by st_dev, and objects by the kernel's inode.

    exact are the filesystems whose objects st_dev and st_ino tell apart, overlays those
    that are overlays.
    """

    def __init__(self) -> None:
        self.exact: set[int] = set()
        self.overlays: set[int] = set()
        self._others: set[int] = set()
        self._inotify = -1
        self._objects: dict[int, _T] = {}
        self._watches: dict[_T, int] = {}

    def is_exact(self, device: int, fd: int) -> bool:
        """Return whether the pair is enough, where fd is of an object of that device."""
        if device not in self.exact and device not in self._others:
            kind = None
            with suppress(OSError):
                kind = filesystem_type(fd)
            (self.exact if kind in _EXACT else self._others).add(device)
            if kind == _OVERLAY:
                self.overlays.add(device)
        return device in self.exact

    def forget(self, device: int) -> None:
        """A filesystem is gone, and its st_dev may become another one's."""
        self.exact.discard(device)
        self._others.discard(device)
        self.overlays.discard(device)

    def add(self, known: _T, fd: int) -> None:
        """An object is found from now on; fd is a descriptor of it.

        Not so where the kernel does not say which it is: the daemon is not root
        and may not read it, or has as many watches as its user may have.
        """
        with suppress(OSError):
            wd = self._watch(fd)
            self._objects[wd] = known
            self._watches[known] = wd

    def has(self, known: _T) -> bool:
        """Return whether an object is found by find()."""
        return known in self._watches

    def find(self, fd: int) -> _T | None:
        """Return which known object fd is of."""
        try:
            wd = self._watch(fd)
        except OSError:
            return None
        found = self._objects.get(wd)
        if found is None:
            self._unwatch(wd)
        return found

    def remove(self, known: _T) -> None:
        """An object is not known any more."""
        wd = self._watches.pop(known, None)
        if wd is not None:
            del self._objects[wd]
            self._unwatch(wd)

    def close(self) -> None:
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def _watch(self, fd: int) -> int:
        if self._inotify < 0:
            self._inotify = inotify()
        return watch(self._inotify, path_of(fd))

    def _unwatch(self, wd: int) -> None:
        with suppress(OSError):  # its object is gone, and it with it
            unwatch(self._inotify, wd)
        with suppress(BlockingIOError):
            os.read(self._inotify, _RECORDS)
