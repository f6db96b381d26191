# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounting by mount(2), as libfuse does for root, with the one flag that it has no word for.

Without MS_POSIXACL the kernel takes the umask off a mode before it asks the
daemon, also below a default ACL, which stands in the umask's place.  pyfuse3
cannot ask for FUSE_DONT_MASK, which would do for every user.

fs.mount hands the descriptor to libfuse, as /dev/fd/N, and calls taken_away().
Linux: fs/fuse/inode.c fuse_fill_super_common().
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterable
from contextlib import suppress

from fusenotify.fs.syscalls import mount, umount

_MS_POSIXACL = 1 << 16
_MNT_DETACH = 2
# The bit of each word, and whether the word sets it.  What the last one says counts.
_FLAGS = {
    "ro": (1, True),
    "rw": (1, False),
    "nosuid": (2, True),
    "suid": (2, False),
    "nodev": (4, True),
    "dev": (4, False),
    "noexec": (8, True),
    "exec": (8, False),
    "sync": (16, True),
    "async": (16, False),
    "dirsync": (128, True),
    "noatime": (1024, True),
    "atime": (1024, False),
}
_BY_DEFAULT = ("nosuid", "nodev")
# Those for the kernel's FUSE; all others are libfuse's own.
_DATA = ("allow_other", "context=", "default_permissions")


def mount_with_acls(name: str, mountpoint: str, options: Iterable[str]) -> int:
    """Mount, and return the descriptor of the FUSE connection; only root can.

    name is the source's in /proc/mounts, options are FUSE's.  Raises OSError.
    """
    options = list(options)
    flags = _MS_POSIXACL
    for option in [*_BY_DEFAULT, *options]:
        bit, is_set = _FLAGS.get(option, (0, False))
        flags = flags | bit if is_set else flags & ~bit
    fd = os.open("/dev/fuse", os.O_RDWR)
    try:
        kind = stat.S_IFMT(os.stat(mountpoint).st_mode)
        words = [f"fd={fd}", f"rootmode={kind:o}", f"user_id={os.getuid()}"]
        words += [f"group_id={os.getgid()}"]
        words += [option for option in options if option.startswith(_DATA)]
        if "allow_root" in options:  # libfuse keeps the others out
            words.append("allow_other")
        mount(name, mountpoint, "fuse.fusenotify", flags, ",".join(words))
    except BaseException:
        os.close(fd)
        raise
    return fd


def taken_away(fd: int, mountpoint: str) -> None:
    """Unmount what has this connection, unless somebody did already."""
    poll = select.poll()
    poll.register(fd, 0)
    if any(found & select.POLLERR for _, found in poll.poll(0)):
        return  # what is mounted there now is not ours
    with suppress(OSError):
        umount(mountpoint, _MNT_DETACH)
