# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the mount that this process has made; later it is known by its id.

mounting.daemon does this right after mounting; mounting.mountpoints unmounts by the id.
"""

from __future__ import annotations

import os

from fusenotify import mountinfo
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import id_of


class Attached:
    """The mount that this process has just made on a directory.

    mountpoint is an O_PATH descriptor of the directory that it covers.  id is the mount's id,
    mount its entry in mountinfo.  as_wanted says that it is on this directory, and not on another
    mount that came in between.

    Raises Failure if the mount is gone already.
    """

    def __init__(self, mountpoint: int) -> None:
        wanted = os.fsencode(os.readlink(f"/proc/self/fd/{mountpoint}"))
        device = _device()
        ours = [mount for mount in mountinfo.mounts() if mount.fstype == mountinfo.FSTYPE]
        if device is not None:
            # If mounts propagate, copies of it in other places have the same number.
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
    """Return the device number of this process's FUSE filesystem; None if the kernel is too old.

    Linux: fs/fuse/dev.c fuse_dev_show_fdinfo(); its dev_t has 20 bits of minor number.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                number = mountinfo.said_of(int(name), "fuse_connection")
                return None if number is None else f"{number >> 20}:{number & 0xFFFFF}"
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return None
