# SPDX-License-Identifier: GPL-2.0-or-later
"""What the words of ``-o`` mean for SOURCE's side of a mount, where files are read in earnest.

The kernel moves SOURCE's access times there, and FUSE's own flags do not reach
it.  mounting.daemon hands this to fs.submounts.  Linux: mount_setattr(2).

That SOURCE is not written to is for the kernel to see to, on FUSE's side: a
remount can change it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusenotify.mounting.options import (
    MS_NOATIME,
    MS_NODIRATIME,
    MS_RDONLY,
    MS_STRICTATIME,
    flags_of,
)

MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
# The field that has one of three values: none of them is relatime.
_ATIME = 0x70

# The words that ask for one of these values.
_ATIME_WORDS = {"atime", "noatime", "norelatime", "nostrictatime", "relatime", "strictatime"}
_DIRECTORY_WORDS = {"diratime", "nodiratime"}


def source_attributes(options: Iterable[str]) -> tuple[int, int]:
    """Return the attributes that SOURCE's clone gets, and those that it loses.

    Where nothing is said about access times, those of SOURCE's own mount stay;
    but what is read through a read-only mount moves none.  Devices are never
    opened there.
    """
    words, flags = set(options), flags_of(options)
    attributes, cleared = MOUNT_ATTR_NODEV, 0
    if words & _ATIME_WORDS or flags & MS_RDONLY:
        cleared |= _ATIME
        if flags & (MS_NOATIME | MS_RDONLY):
            attributes |= MOUNT_ATTR_NOATIME
        elif flags & MS_STRICTATIME:
            attributes |= MOUNT_ATTR_STRICTATIME
    if words & _DIRECTORY_WORDS:
        cleared |= MOUNT_ATTR_NODIRATIME
        if flags & MS_NODIRATIME:
            attributes |= MOUNT_ATTR_NODIRATIME
    return attributes, cleared
