# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the socket and the path in the mount for an ordinary path.

The kernel says which mount a path is on and resolves its links; an extended
attribute of the mount says where its socket is.  FUSENOTIFY_SOCKET names
another socket to use, for example in a container that sees the socket under
another path.  Nothing here causes an event.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from fusenotify.client.common import AnyPath
from fusenotify.mountinfo import FSTYPE, Mount, contains, mount_of_descriptor

SOCKET_VARIABLE = "FUSENOTIFY_SOCKET"
SOCKET_XATTR = "user.fusenotify.socket"


# The kernel adds this to the path of an object that has lost its name.  A real name can end
# in it, too.
_DELETED = b" (deleted)"


class Opened:
    """A descriptor (O_PATH), closed with the last reference to this object."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path is.

    path is absolute and has no symbolic links, except perhaps at its end.
    mount is the mount that the path is on, if this process can see it.  socket
    is the path of the socket that its daemon listens on.  nameless is a
    descriptor of the object if no path leads to it.
    """

    path: bytes
    mount: Mount | None
    socket: str
    nameless: Opened | None = None

    def inner_path(self, mountpoint: bytes) -> bytes:
        """Return the path relative to the mount's root.

        mountpoint is where the daemon says that it is mounted; it is used if
        this process does not see the mount.

        Raises OSError (EXDEV) if the path is outside the mount.
        """
        if self.mount is not None and self.mount.fstype == FSTYPE:
            return self.mount.inner_path(self.path)
        if contains(mountpoint, self.path):
            return self.path[len(mountpoint.rstrip(b"/")) :] or b"/"
        raise _outside(self.path, self.mount)

    def check_same_mount(self, other: Place) -> None:
        """Check that both places are served by the same socket.

        Raises OSError (EXDEV).
        """
        if self.socket != other.socket:
            raise OSError(
                errno.EXDEV,
                f"it is served at {other.socket}, but earlier watches are served at "
                f"{self.socket}: use one Inotify for each mount",
                other.path,
            )


def locate(path: AnyPath, *, follow: bool = True, socket: AnyPath | None = None) -> Place:
    """Find the socket that serves path.

    With follow, a symbolic link at the end of the path is followed.  socket, or
    FUSENOTIFY_SOCKET if it is None, is used instead of the socket that the
    mount names; then a path that does not exist here is taken as it is written.

    An object reached through /proc/self/fd or the like may have lost its name,
    or another object may have the name now.  The place then has nameless.

    Raises OSError, whose filename is bytes: as open(2) for the path, EXDEV for a path on no
    fusenotify mount, EACCES for another user's mount without allow_other, ENOTCONN if the
    mount's daemon is dead, EINVAL for a NUL in the path.
    """
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, "a path cannot contain NUL", name)
    if socket is None:
        socket = os.environ.get(SOCKET_VARIABLE) or None
    try:
        # With O_PATH the filesystem gets no OPEN request, so there is no IN_OPEN.
        opened = Opened(os.open(name, os.O_PATH | (0 if follow else os.O_NOFOLLOW)))
    except OSError as error:
        if name and socket is not None and error.errno in (errno.ENOENT, errno.ENOTDIR):
            # Only the mount's socket need be visible here: the daemon resolves the path.
            return Place(os.path.abspath(name), None, os.fsdecode(socket))
        raise _explained(error) from None
    handle = b"/proc/self/fd/%d" % opened.number
    real = os.readlink(handle)
    mount = mount_of_descriptor(opened.number)
    is_ours = mount is not None and mount.fstype == FSTYPE
    nameless = None if _is_named(opened, real) else opened
    if socket is not None:
        if nameless is not None and not is_ours:
            raise OSError(errno.ENOENT, "the object that it leads to has no name any more", name)
        return Place(real, mount, os.fsdecode(socket), nameless)
    if mount is None or not is_ours or not contains(mount.mountpoint, real):
        raise _outside(real, mount)
    return Place(real, mount, _socket_of(handle, mount), nameless)


def is_out_of_sight(path: AnyPath) -> bool:
    """Return whether FUSENOTIFY_SOCKET is set and a path does not exist for this process."""
    return bool(os.environ.get(SOCKET_VARIABLE)) and not os.path.lexists(path)


def _is_named(opened: Opened, real: bytes) -> bool:
    """Return whether the path that the kernel shows for an object leads to it."""
    if not real.endswith(_DELETED):
        return True
    try:
        return os.path.samestat(os.lstat(real), os.fstat(opened.number))
    except OSError:
        return False


def _socket_of(handle: bytes, mount: Mount) -> str:
    # Linux gives "user" attributes only of regular files and directories, and only to
    # users who may read these; in other cases the root of the mount is asked.
    try:
        return os.fsdecode(os.getxattr(handle, SOCKET_XATTR))
    except OSError:
        try:
            return os.fsdecode(os.getxattr(mount.mountpoint, SOCKET_XATTR))
        except OSError as error:
            refusal = mount.refusal(os.geteuid()) if error.errno == errno.EACCES else None
            if refusal is not None:
                raise OSError(errno.EACCES, refusal, error.filename) from None
            raise _explained(error) from None


def _explained(error: OSError) -> OSError:
    if error.errno == errno.ENOTCONN:
        return OSError(
            errno.ENOTCONN,
            "the daemon of this mount is dead: 'fusenotify unmount' cleans up",
            error.filename,
        )
    return error


def _outside(path: bytes, mount: Mount | None) -> OSError:
    found = "no mount" if mount is None else f"the {mount.fstype} mount at "
    if mount is not None:
        found += f"'{os.fsdecode(mount.mountpoint)}'"
    return OSError(
        errno.EXDEV,
        f"it is on {found}, not on a fusenotify mount: use inotifywait or watchdog there, "
        f"mount it with 'fusenotify mount', or name a socket in {SOCKET_VARIABLE}",
        path,
    )
