# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the inode of a descriptor that a client passed, whether the object has a name or not.

The server uses it through fs.mount, for cases in which inotify_add_watch(2) would
get /proc/self/fd/N.  Nothing that the client says is trusted: the kernel says which
object it is, and no filesystem is asked, since that might be this one.
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
    """Yield the inode of a descriptor, pinned during the with block.

    device is the mount's own number, as mountinfo shows it.  descriptor still
    belongs to the caller.  With directory, the object must be a directory.  view
    says how owners and modes are shown.

    Raises OSError: EBADF (not opened with O_PATH), EXDEV (of another
    filesystem), EACCES (no read permission on the object), ENOTDIR, ESTALE.
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
        raise OSError(errno.EACCES, "no read permission on the object of the descriptor")
    inode.pin()
    try:
        yield inode
    finally:
        inode.unpin()
