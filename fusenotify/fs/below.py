# SPDX-License-Identifier: GPL-2.0-or-later
"""What SOURCE's filesystem has nothing to do for, so that it need not be asked.

fs.file_requests asks when SOURCE is opened.

Invariant
    A kind of filesystem that is not listed here is asked for everything, and
        so is SOURCE where another one is mounted in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from fusenotify.fs.syscalls import path_of
from fusenotify.mountinfo import Mount, contains, mount_of_descriptor, mounts

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
# That whose open(2) does so where a file of its lower layer is to be written, as fs.layers knows.
_OVERLAY = "overlay"
# Its options by which it remembers names that are gone of files with several, or of all, each with
# how many names a removed file has at least which it copies up for that.  Linux: ovl_need_index().
_REMEMBERING = {"nfs_export": 1, "index": 2}
NEVER = 1 << 32


@dataclass(frozen=True, slots=True)
class Below:
    """The filesystem that SOURCE is in.

    flushes says that close(2) may have something to report there, in_memory
    that fsync(2) has no disk to wait for, reserves that it keeps room which
    only root may fill.  sleeps says that open(2) and close(2) may wait for a
    server.  links_copied is that of links_copied().
    """

    flushes: bool = True
    in_memory: bool = False
    reserves: bool = True
    sleeps: bool = True
    links_copied: int = NEVER

    @classmethod
    def of(cls, root_fd: int) -> Below:
        """Return what is known of SOURCE, of which root_fd is a descriptor."""
        mount = mount_of_descriptor(root_fd)
        if mount is None:
            return cls()
        kinds = {mount.fstype} | {inner.fstype for inner in _inside(mount, root_fd)}
        return cls(
            flushes=not kinds <= _WITHOUT_FLUSH,
            in_memory=mount.fstype in _IN_MEMORY,
            reserves=len(kinds) > 1 or _keeps_room(root_fd),
            sleeps=mount.fstype not in LOCAL and mount.fstype != _OVERLAY,
            links_copied=links_copied(root_fd),
        )


def links_copied(root_fd: int) -> int:
    """Return how many links a file has at least that an overlay copies up to remove one of them.

    root_fd is a descriptor of SOURCE.  It counts for all overlays that there are.
    """
    shown = {option for option in _REMEMBERING if not _is_default(option)}
    least = NEVER
    mount = mount_of_descriptor(root_fd)
    for each in [] if mount is None else [mount, *_inside(mount, root_fd)]:
        if each.fstype == _OVERLAY:
            on = {option for option in shown if f"{option}=on" in each.options}
            on |= {
                option
                for option in _REMEMBERING.keys() - shown
                if f"{option}=off" not in each.options
            }
            least = min([least, *(_REMEMBERING[option] for option in on)])
    return least


@cache
def _is_default(option: str) -> bool:
    """Return whether overlays have an option, and show it only where they have it not.

    This is read once, before the mount.
    """
    try:
        with open(f"/sys/module/overlay/parameters/{option}", encoding="ascii") as file:
            return file.read() == "Y\n"
    except OSError:
        return False


def _inside(mount: Mount, root_fd: int) -> list[Mount]:
    """Return the mounts below SOURCE, which is in mount."""
    source = os.readlink(os.fsencode(f"/proc/self/fd/{root_fd}"))
    return [
        inner
        for inner in mounts()
        if inner.id != mount.id
        and inner.mountpoint != mount.mountpoint
        and contains(source, inner.mountpoint)
    ]


def _keeps_room(root_fd: int) -> bool:
    try:
        room = os.statvfs(path_of(root_fd))
    except OSError:
        return True  # it does not say
    return room.f_bfree > room.f_bavail
