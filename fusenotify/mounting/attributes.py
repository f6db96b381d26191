# SPDX-License-Identifier: GPL-2.0-or-later
"""What the words of ``-o`` mean for SOURCE's side of a mount, where files are read in earnest.

The kernel moves SOURCE's access times there, and FUSE's own flags do not reach
it.  mounting.daemon hands this to fs.submounts.  Linux: mount_setattr(2).
"""

from __future__ import annotations

from collections.abc import Iterable

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
# The field that has one of three values.
_ATIME = 0x70

# What each word sets, and what it clears before.
_WORDS = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "noatime": (MOUNT_ATTR_NOATIME, _ATIME),
    "atime": (MOUNT_ATTR_RELATIME, _ATIME),
    "relatime": (MOUNT_ATTR_RELATIME, _ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (MOUNT_ATTR_RELATIME, _ATIME),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
}


def source_attributes(options: Iterable[str]) -> tuple[int, int]:
    """Return the attributes that SOURCE's clone gets, and those that it loses.

    Of contrary words the last one counts.  Where none is said about access
    times, those of SOURCE's own mount stay.  Devices are never opened there.
    """
    attributes, cleared = MOUNT_ATTR_NODEV, 0
    for option in options:
        on, off = _WORDS.get(option, (0, 0))
        if off & MOUNT_ATTR_RDONLY:  # SOURCE's own mount may be read-only
            attributes &= ~MOUNT_ATTR_RDONLY
            continue
        attributes = attributes & ~off | on
        cleared |= off
    return attributes, cleared
