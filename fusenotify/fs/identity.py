# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the known object of a descriptor where st_dev and st_ino do not identify it.

fs.inodes uses it.  On the filesystems in _EXACT the pair identifies an object.
Elsewhere it may not: on overlayfs two names of a file in a lower layer share a
pair, but become separate files as soon as one is written to, and an object that
is copied up may get another pair; some network and FUSE filesystems invent the
numbers.  There the kernel's own inode identifies the object, as it does for
programs that work without a mount in between.  inotify tells which inode it is:
two watches on one inode are a single watch, with one watch descriptor.

Invariants
    Kinds of filesystems that are not in _EXACT are not trusted.
    A watch exists as long as its object is known.
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
_RECORDS = 4096  # in bytes; the events are not needed


_T = TypeVar("_T", bound=Hashable)


class Identity(Generic[_T]):
    """The filesystems below SOURCE by st_dev, and objects by the kernel's inode.

    exact has the filesystems whose objects st_dev and st_ino identify, overlays those
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
        """Return whether the pair identifies an object.

        device is the object's st_dev, fd a descriptor of it.
        """
        if device not in self.exact and device not in self._others:
            kind = None
            with suppress(OSError):
                kind = filesystem_type(fd)
            (self.exact if kind in _EXACT else self._others).add(device)
            if kind == _OVERLAY:
                self.overlays.add(device)
        return device in self.exact

    def forget(self, device: int) -> None:
        """Forget a filesystem that is gone; another one may get its st_dev."""
        self.exact.discard(device)
        self._others.discard(device)
        self.overlays.discard(device)

    def add(self, known: _T, fd: int) -> None:
        """Make find() find an object from now on; fd is a descriptor of it.

        This does nothing if the kernel does not allow the watch: the daemon is not
        root and may not read the object, or its user has no more watches.
        """
        with suppress(OSError):
            wd = self._watch(fd)
            self._objects[wd] = known
            self._watches[known] = wd

    def has(self, known: _T) -> bool:
        """Return whether find() can find an object."""
        return known in self._watches

    def find(self, fd: int) -> _T | None:
        """Return the known object of fd, or None."""
        try:
            wd = self._watch(fd)
        except OSError:
            return None
        found = self._objects.get(wd)
        if found is None:
            self._unwatch(wd)
        return found

    def remove(self, known: _T) -> None:
        """Forget an object, which is no longer known."""
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
        with suppress(OSError):  # the object is gone, and its watch, too
            unwatch(self._inotify, wd)
        with suppress(BlockingIOError):
            os.read(self._inotify, _RECORDS)
