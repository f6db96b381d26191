# SPDX-License-Identifier: GPL-2.0-or-later
"""Changing the flags of an existing mount, as ``mount -o remount`` does.

The command line calls it for the word ``remount``, which mount(8) also uses, with all present
options of the mount and the changes.  mounting.daemon sets the flags with it that libfuse
cannot set.  The mount is reached by a descriptor of its root.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

from fusenotify import mountinfo
from fusenotify.mounting import options as words
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import find, opened

_MS_REMOUNT = 32


def remount(path: str, options: Sequence[str], *, whole: bool) -> None:
    """Change the flags of the mount at path, which is absolute and resolved, to options.

    Flags without a word in options stay as they are.  With whole, options are complete, as
    from mount(8); then only flags that the daemon carries out stay.

    Raises Failure if no mount of ours is there, a word cannot be changed, or mount(2) refuses.
    """
    mount = find(path)
    if mount is None:
        raise Failure(f"{path}: no fusenotify mount is there")
    has = {f"fsname={os.fsdecode(mount.source)}", *mount.options}
    for word in words.other_words(options):
        if word not in has and not word.startswith(("subtype=", "nonempty")):
            raise Failure(f"{path}: '{word}' cannot be changed by a remount; unmount it first")
    before = flags_of_mount(mount)
    kept = words.OURS | words.MS_RELATIME if whole else ~0
    after = words.flags_of(options, before & kept)
    if changed := (before ^ after) & words.OURS:
        names = [word for word in options if (words.flags_of([word], before) ^ before) & changed]
        raise Failure(
            f"{path}: '{names[-1]}' cannot be changed by a remount, because the daemon carries it "
            "out; unmount it first"
        )
    set_flags(mount, after)


def set_flags(mount: mountinfo.Mount, flags: int) -> None:
    """Set the flags of a mount and its filesystem; all others are cleared.

    Raises Failure.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with opened(mount) as root:
        place = b"/proc/self/fd/%d" % root
        if not libc.mount(None, place, None, ctypes.c_ulong(_MS_REMOUNT | flags), None):
            return
        code = ctypes.get_errno()
    path = os.fsdecode(mount.mountpoint)
    if code == errno.EBUSY:
        raise Failure(f"{path}: busy, programs have files open for writing (fuser -vm shows them)")
    raise Failure(f"{path}: cannot be remounted: {os.strerror(code)}")


def flags_of_mount(mount: mountinfo.Mount) -> int:
    """Return the flags of a mount and its filesystem."""
    flags = words.flags_of(mount.options, 0)
    # The kernel shows no word for strictatime.
    return flags if flags & (words.MS_NOATIME | words.MS_RELATIME) else flags | words.MS_STRICTATIME
