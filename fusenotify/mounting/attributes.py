# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes of SOURCE's clone that follow from the words of ``-o``.

The daemon reads files there, so the kernel updates SOURCE's access times there,
whatever the flags of the FUSE mount are.  mounting.daemon passes the attributes to
fs.submounts.  Linux: mount_setattr(2).

Read-only is not among them: the kernel prevents writes on the side of FUSE, where a
remount can change that.
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
# The field with the values noatime and strictatime; without both it means relatime.
_ATIME = 0x70

# The words that set this field.
_ATIME_WORDS = {"atime", "noatime", "norelatime", "nostrictatime", "relatime", "strictatime"}
_DIRECTORY_WORDS = {"diratime", "nodiratime"}


def source_attributes(options: Iterable[str]) -> tuple[int, int]:
    """Return the attributes that SOURCE's clone gets, and those that it loses.

    If options say nothing about access times, the clone behaves like SOURCE's own
    mount; but reads through a read-only mount change no access times.  Devices are
    never opened there.
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
