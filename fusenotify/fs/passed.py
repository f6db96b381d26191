# SPDX-License-Identifier: GPL-2.0-or-later
"""From a descriptor that a client passed to an inode, whether the object has a name or not.

The server asks for it through fs.mount, where inotify_add_watch(2) would be
given /proc/self/fd/N.  The client's word counts for nothing: the kernel says
what the descriptor is of, and no filesystem is asked, which might be this one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from fusenotify.credentials import Credentials
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.permissions import READ, allowed
from fusenotify.fs.syscalls import known_of
from fusenotify.view import View


@contextmanager
def passed(
    inodes: Inodes,
    device: str | None,
    descriptor: int,
    who: Credentials,
    *,
    directory: bool,
    view: View,
) -> Iterator[Inode]:
    """Yield the inode that a descriptor is of, pinned until the block ends.

    device is the mount's own number, as mountinfo shows it; descriptor stays
    the caller's; directory asks for a directory; view says how owners and
    modes are shown.

    Raises OSError: EBADF (not opened with O_PATH), EXDEV (of another
    filesystem), EACCES (no read permission on the object), ENOTDIR.
    """
    if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_PATH:
        raise OSError(errno.EBADF, "the descriptor was not opened with O_PATH")
    known = known_of(descriptor)
    if device is None or known is None or known.device != device:
        raise OSError(errno.EXDEV, "the descriptor is of another filesystem")
    try:
        inode = inodes[known.ino]
    except KeyError:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None
    status = os.fstat(inode.fd)
    if directory and not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not allowed(inode.fd, status, who, READ, view):
        raise OSError(errno.EACCES, "no read permission on what the descriptor is of")
    inode.pin()
    try:
        yield inode
    finally:
        inode.unpin()
