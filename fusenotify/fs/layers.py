# SPDX-License-Identifier: GPL-2.0-or-later
"""The copying up of objects by overlays, and the known objects that need no copying any more.

An overlayfs changes only objects on its upper layer: an object of a lower one is
first copied up, with the directories above it.  That takes long for a large file,
and needs an fsync(2) of each object.  So a request says which objects it is about to change
(Layers.need()) before it changes anything.  If one may still be on a lower layer,
NotCopiedUp makes fs.requests copy it up in another thread, and the request is
made again.  Opening a file for writing copies it up, too; fs.file_requests deals
with that.

Linux: ovl_copy_up().

Invariants
    A copied object stays on the upper layer, so it is asked for once for each
        known object.
    Only the layer changes; not even the kernel's inotify reports that.
    While a thread copies a file, the serving thread makes no call that needs the
        overlay's lock of that file, even if no request waits for the thread any
        more.
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

# Attributes that no object has.  Root may set the first one, users who may write to the object the
# other one.
_NOBODYS = ("trusted.fusenotify.none", "user.fusenotify.none")


class NotCopiedUp(Obstacle):
    """An object may have to be copied up before it is changed."""

    def __init__(self, inode: Held) -> None:
        super().__init__()
        self.inode = inode


class BeingCopied(Obstacle):
    """An object that is to lose a name is being copied up, and so is locked by the overlay."""

    def __init__(self, ended: trio.Event) -> None:
        super().__init__()
        self.ended = ended


class Layers:
    """The known objects of overlays, which are the filesystems with these st_dev.

    up has the objects on an upper layer, with True if their data is there, too (with
    metacopy=on the data is copied later).  excused has the objects that cannot be copied up
    beforehand, so that the present request need not wait for them.
    """

    def __init__(self, overlays: Set[int]) -> None:
        self.overlays = overlays
        self.excused: Collection[Held] = ()
        self.up: dict[Held, bool] = {}
        # The objects that threads work on: the number of threads, and an event for the last one's
        # end.
        self._copying: dict[Held, tuple[int, trio.Event]] = {}

    def need(self, *inodes: Held) -> None:
        """Raise NotCopiedUp if one of the inodes to be changed may be on a lower layer."""
        for inode in inodes:
            if self.may_be_below(inode) and inode not in self.excused:
                raise NotCopiedUp(inode)

    def need_unlocked(self, inode: Held) -> None:
        """Raise BeingCopied if removing a name of an object would wait for a thread."""
        if (copying := self._copying.get(inode)) is not None:
            raise BeingCopied(copying[1])

    def begin(self, inode: Held) -> None:
        """Record that a thread begins work that may copy an object up."""
        count, ended = self._copying.get(inode) or (0, trio.Event())
        self._copying[inode] = count + 1, ended
        inode.pin()

    def end(self, inode: Held) -> None:
        """Record that a thread has ended its work on an object."""
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
        """Record that an object was made on the upper layer or copied up; data: with its data."""
        if inode.device in self.overlays:
            self.up[inode] = data or self.up.get(inode, False)


def copy_up(fd: int) -> bool:
    """Make the overlay copy the object of a descriptor up; return whether that is possible.

    This replaces an attribute that the object does not have: for that, the overlay
    copies the object up, of whatever kind and even if it is open or executed, and then
    finds nothing to change.

    Raises OSError if a file's data cannot be copied: ENOSPC, EDQUOT, EIO and others;
    EEXIST if the file was removed, also if it was removed in the overlay itself.
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
            return True  # somebody has set the attribute after all
    return False
