# SPDX-License-Identifier: GPL-2.0-or-later
"""What overlays copy up, and which known objects they need not copy any more.

An overlayfs changes only what is on its upper layer: an object of a lower one is
copied up before, with the directories above it.  That takes as long as the file
is large, and an fsync(2) of each.  So a request says what it is about to change
(Layers.need()) before it changes anything; where that may be on a lower layer
still, NotCopiedUp has fs.requests copy it up in another thread, and the request is
made again.  To be opened for writing is to be copied up, too: fs.file_requests
says so.

Linux: ovl_copy_up().

Invariants
    What was copied up stays up: it is asked for once for each known object.
    Nothing but the layer changes: not even the kernel's inotify hears of it.
    While a thread copies a file, the serving thread calls nothing that needs the
        overlay's lock of it, also where nobody waits for the thread any more.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Set

import trio

from fusenotify.fs.descriptors import Held
from fusenotify.fs.syscalls import path_of
from fusenotify.fs.waiting import Obstacle

# Attributes that nothing has.  The first is for root, the other for who may write to the object.
_NOBODYS = ("trusted.fusenotify.none", "user.fusenotify.none")


class NotCopiedUp(Obstacle):
    """An object may have to be copied up before it is changed."""

    def __init__(self, inode: Held) -> None:
        super().__init__()
        self.inode = inode


class BeingCopied(Obstacle):
    """An object that is to lose a name is being copied up, and locked by the overlay meanwhile."""

    def __init__(self, ended: trio.Event) -> None:
        super().__init__()
        self.ended = ended


class Layers:
    """The known objects of overlays, which are the filesystems with these st_dev.

    up are those on an upper layer, each with whether its data is, too (metacopy=on copies
    that later).  excused are those for which the request that is being done need not wait, as
    they cannot be copied up beforehand.
    """

    def __init__(self, overlays: Set[int]) -> None:
        self.overlays = overlays
        self.excused: Collection[Held] = ()
        self.up: dict[Held, bool] = {}
        # Those for which a thread is at work: how many are, and what says that none is.
        self._copying: dict[Held, tuple[int, trio.Event]] = {}

    def need(self, *inodes: Held) -> None:
        """Raise NotCopiedUp where one of those that are about to be changed may be below."""
        for inode in inodes:
            if self.may_be_below(inode) and inode not in self.excused:
                raise NotCopiedUp(inode)

    def need_unlocked(self, inode: Held) -> None:
        """Raise BeingCopied where to take a name from an object would wait for a thread."""
        if (copying := self._copying.get(inode)) is not None:
            raise BeingCopied(copying[1])

    def begin(self, inode: Held) -> None:
        """A thread begins what may copy an object up."""
        count, ended = self._copying.get(inode) or (0, trio.Event())
        self._copying[inode] = count + 1, ended
        inode.pin()

    def end(self, inode: Held) -> None:
        """A thread has ended."""
        count, ended = self._copying.pop(inode)
        if count > 1:
            self._copying[inode] = count - 1, ended
        else:
            ended.set()
        inode.unpin()

    def may_be_below(self, inode: Held, *, data: bool = False) -> bool:
        """Return whether an object, or a file's data, may have to be copied up."""
        if inode.device not in self.overlays:
            return False
        return not self.up.get(inode, False) if data else inode not in self.up

    def mark_up(self, inode: Held, *, data: bool = False) -> None:
        """An object was made on the upper layer, or copied up; data says its data, too."""
        if inode.device in self.overlays:
            self.up[inode] = data or self.up.get(inode, False)


def copy_up(fd: int) -> bool:
    """Have the object of a descriptor copied up; return whether that can be had.

    An attribute is replaced that it has not: the overlay copies the object up for
    that, of whatever kind, open or executed, and then finds nothing to change.

    Raises OSError where a file's data cannot be copied: ENOSPC, EDQUOT, EIO and
    others; EEXIST where it was removed, as from the overlay itself.
    """
    for name in _NOBODYS:
        try:
            os.setxattr(path_of(fd), name, b"", os.XATTR_REPLACE)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return True
            if error.errno in (errno.EPERM, errno.EACCES):
                continue
            if error.errno == errno.EROFS or stat.S_ISDIR(os.fstat(fd).st_mode):
                return False
            raise
        else:
            return True  # somebody has it all the same
    return False
