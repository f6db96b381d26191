# SPDX-License-Identifier: GPL-2.0-or-later
"""What SOURCE's filesystem has nothing to do for, so that it need not be asked.

fs.file_requests asks once, when SOURCE is opened.

Invariant
    A kind of filesystem that is not listed here is asked for everything, and
        so is SOURCE where another one is mounted in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from fusenotify.fs.syscalls import path_of
from fusenotify.mountinfo import contains, mount_of_descriptor, mounts

# Those that keep files in memory alone.
_IN_MEMORY = frozenset(["ramfs", "tmpfs"])
# Those without a flush operation: close(2) can report nothing of theirs.
_WITHOUT_FLUSH = _IN_MEMORY | {"btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs"}
# Those whose open(2) asks nobody: neither a server nor another filesystem.
LOCAL = _WITHOUT_FLUSH | {
    "bcachefs",
    "erofs",
    "exfat",
    "iso9660",
    "ntfs3",
    "squashfs",
    "vfat",
    "zfs",
}
# That whose open(2) does so where a file of its lower layer is to be written: it copies it first.
_COPIES_UP = "overlay"


@dataclass(frozen=True, slots=True)
class Below:
    """The filesystem that SOURCE is in.

    flushes says that close(2) may have something to report there, in_memory
    that fsync(2) has no disk to wait for, reserves that it keeps room which
    only root may fill.  sleeps says that open(2) and close(2) may wait for a
    server, copies_up that open(2) may take long for a file to be written.
    """

    flushes: bool = True
    in_memory: bool = False
    reserves: bool = True
    sleeps: bool = True
    copies_up: bool = False

    @classmethod
    def of(cls, root_fd: int) -> Below:
        """Return what is known of SOURCE, of which root_fd is a descriptor."""
        mount = mount_of_descriptor(root_fd)
        if mount is None:
            return cls()
        source = os.readlink(os.fsencode(f"/proc/self/fd/{root_fd}"))
        kinds = {mount.fstype} | {
            inner.fstype
            for inner in mounts()
            if inner.id != mount.id
            and inner.mountpoint != mount.mountpoint
            and contains(source, inner.mountpoint)
        }
        return cls(
            flushes=not kinds <= _WITHOUT_FLUSH,
            in_memory=mount.fstype in _IN_MEMORY,
            reserves=len(kinds) > 1 or _keeps_room(root_fd),
            sleeps=mount.fstype not in LOCAL and mount.fstype != _COPIES_UP,
            copies_up=mount.fstype == _COPIES_UP,
        )


def _keeps_room(root_fd: int) -> bool:
    try:
        room = os.statvfs(path_of(root_fd))
    except OSError:
        return True  # it does not say
    return room.f_bfree > room.f_bavail
