# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the kernel's mounts this process made: found once, known by its id from then on.

mounting.daemon asks right after it mounted; mounting.mountpoints takes away by the id.
"""

from __future__ import annotations

import os

from fusenotify import mountinfo
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import id_of


class Attached:
    """The mount that this process has just made on a directory.

    mountpoint is a descriptor (O_PATH) of the directory below it.  id is the mount's, mount what
    mountinfo says of it, and as_wanted says that it is on this directory, and on nothing
    that came between.

    Raises Failure where it is gone already.
    """

    def __init__(self, mountpoint: int) -> None:
        wanted = os.fsencode(os.readlink(f"/proc/self/fd/{mountpoint}"))
        device = _device()
        ours = [mount for mount in mountinfo.mounts() if mount.fstype == mountinfo.FSTYPE]
        if device is not None:
            # Its copies in other places have the same number, where mounts propagate.
            ours = [mount for mount in ours if mount.device == device]
        here = [mount for mount in ours if mount.mountpoint == wanted]
        if not here and (device is None or not ours):
            raise Failure(f"{os.fsdecode(wanted)}: unmounted before it answered")
        own = (here or ours)[-1]
        try:
            self.id = id_of(own)
        except Failure:  # covered
            self.id = mountinfo.MountId(own.id, None)
        self.mount = own
        self.as_wanted = bool(here) and own.parent == mountinfo.said_of(mountpoint, "mnt_id")


def _device() -> str | None:
    """Return the number of this process's FUSE filesystem; None where the kernel does not say.

    Linux: fs/fuse/dev.c fuse_dev_show_fdinfo(), of late; its dev_t has 20 bits of minor number.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                number = mountinfo.said_of(int(name), "fuse_connection")
                return None if number is None else f"{number >> 20}:{number & 0xFFFFF}"
        except FileNotFoundError:  # of the listing itself
            continue
    return None
