# SPDX-License-Identifier: GPL-2.0-or-later
"""The properties of SOURCE's filesystem that save system calls.

fs.file_requests looks them up when SOURCE is opened.

Invariant
    For a kind of filesystem that is not listed here, no call is saved; nor for
        SOURCE if a filesystem of such a kind is mounted in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from fusenotify.fs.syscalls import path_of
from fusenotify.mountinfo import Mount, contains, mount_of_descriptor, mounts

# Filesystems that keep files only in memory.
_IN_MEMORY = frozenset(["ramfs", "tmpfs"])
# Filesystems without a flush operation: close(2) cannot report an error of theirs.
_WITHOUT_FLUSH = _IN_MEMORY | {"btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs"}
# Filesystems whose open(2) needs neither a server nor another filesystem.
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
# The filesystem whose open(2) needs another one only when a file of a lower layer is opened for
# writing, which fs.layers handles.
_OVERLAY = "overlay"
# With these options it remembers the removed names of files that have several names, or of all
# files, and copies a file up for that if it has at least so many names.  Linux: ovl_need_index().
_REMEMBERING = {"nfs_export": 1, "index": 2}
NEVER = 1 << 32


@dataclass(frozen=True, slots=True)
class Below:
    """The properties of SOURCE's filesystem.

    flushes says that close(2) may report an error, in_memory that fsync(2) has
    no disk to wait for, reserves that the filesystem keeps room that only root may
    fill, sleeps that open(2) and close(2) may wait for a server.  links_copied is
    the result of links_copied().
    """

    flushes: bool = True
    in_memory: bool = False
    reserves: bool = True
    sleeps: bool = True
    links_copied: int = NEVER

    @classmethod
    def of(cls, root_fd: int) -> Below:
        """Return the properties of SOURCE's filesystem; root_fd is a descriptor of SOURCE."""
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
    """Return from how many links on an overlay copies a file up in order to remove one of them.

    root_fd is a descriptor of SOURCE.  The number is the smallest one of all overlays in
    SOURCE, NEVER if there is none.
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
    """Return whether overlays have an option by default; then they show it only if it is off.

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
        return True  # unknown
    return room.f_bfree > room.f_bavail
