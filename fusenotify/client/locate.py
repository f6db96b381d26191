# SPDX-License-Identifier: GPL-2.0-or-later
"""From an ordinary path to a mount's socket and the path in it.

The kernel says which mount a path is in and resolves its links; the mount
says by an extended attribute where its socket is.  FUSENOTIFY_SOCKET names
another socket to use, as in a container that sees it elsewhere.  Nothing
that is done here causes an event.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from fusenotify.client.common import AnyPath
from fusenotify.mountinfo import FSTYPE, Mount, contains, mount_of_descriptor

SOCKET_VARIABLE = "FUSENOTIFY_SOCKET"
SOCKET_XATTR = "user.fusenotify.socket"


# How the kernel shows the path of what has lost its name.  Names may end so, too.
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

    path is absolute and has no symbolic links, unless at its end; mount is
    the mount it is in, as far as this process can see; socket is where its
    daemon listens.  nameless is the object itself where no path leads to it.
    """

    path: bytes
    mount: Mount | None
    socket: str
    nameless: Opened | None = None

    def inner_path(self, mountpoint: bytes) -> bytes:
        """Return the path relative to the mount's root.

        mountpoint is what the daemon says; it counts where the mount itself
        is not visible here.

        Raises OSError (EXDEV) where the path is outside.
        """
        if self.mount is not None and self.mount.fstype == FSTYPE:
            return self.mount.inner_path(self.path)
        if contains(mountpoint, self.path):
            return self.path[len(mountpoint.rstrip(b"/")) :] or b"/"
        raise _outside(self.path, self.mount)

    def check_same_mount(self, other: Place) -> None:
        """Refuse a place that this one's socket does not serve.

        Raises OSError (EXDEV).
        """
        if self.socket != other.socket:
            raise OSError(
                errno.EXDEV,
                f"it is served at {other.socket}, what was watched before at {self.socket}: "
                "take one Inotify for each mount",
                other.path,
            )


def locate(path: AnyPath, *, follow: bool = True, socket: AnyPath | None = None) -> Place:
    """Find the socket that serves path.

    A symbolic link at the path's end is followed where follow.  socket, or
    else FUSENOTIFY_SOCKET, is taken instead of what the mount says.

    What /proc/self/fd and its like lead to may have no name any more, or
    another object may have it: then the place has the object itself.

    Raises OSError: as open(2) for the path, EXDEV outside of any fusenotify
    mount, ENOTCONN where the mount's daemon is dead.
    """
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, "a path has no NUL in it", name)
    if socket is None:
        socket = os.environ.get(SOCKET_VARIABLE) or None
    try:
        # Not opened in the sense of IN_OPEN: the filesystem does not hear of it.
        opened = Opened(os.open(name, os.O_PATH | (0 if follow else os.O_NOFOLLOW)))
    except OSError as error:
        raise _explained(error) from None
    handle = b"/proc/self/fd/%d" % opened.number
    real = os.readlink(handle)
    mount = mount_of_descriptor(opened.number)
    is_ours = mount is not None and mount.fstype == FSTYPE
    nameless = None if _is_named(opened, real) else opened
    if socket is not None:
        if nameless is not None and not is_ours:
            raise OSError(errno.ENOENT, "what it leads to has no name any more", name)
        return Place(real, mount, os.fsdecode(socket), nameless)
    if mount is None or not is_ours or not contains(mount.mountpoint, real):
        raise _outside(real, mount)
    return Place(real, mount, _socket_of(handle, mount), nameless)


def _is_named(opened: Opened, real: bytes) -> bool:
    """Return whether the path that the kernel shows for an object leads to it."""
    if not real.endswith(_DELETED):
        return True
    try:
        return os.path.samestat(os.lstat(real), os.fstat(opened.number))
    except OSError:
        return False


def _socket_of(handle: bytes, mount: Mount) -> str:
    # Linux gives "user" attributes of regular files and directories only, and
    # only to those who may read them; the mount's root answers for the others.
    try:
        return os.fsdecode(os.getxattr(handle, SOCKET_XATTR))
    except OSError:
        try:
            return os.fsdecode(os.getxattr(mount.mountpoint, SOCKET_XATTR))
        except OSError as error:
            raise _explained(error) from None


def _explained(error: OSError) -> OSError:
    if error.errno == errno.ENOTCONN:
        return OSError(
            errno.ENOTCONN,
            "the daemon of this mount is dead; 'fusenotify unmount' cleans up",
            error.filename,
        )
    return error


def _outside(path: bytes, mount: Mount | None) -> OSError:
    found = "no mount" if mount is None else f"the {mount.fstype} mount at "
    if mount is not None:
        found += f"'{os.fsdecode(mount.mountpoint)}'"
    return OSError(
        errno.EXDEV,
        f"it is in {found}, not in one of fusenotify: there inotifywait and watchdog serve; "
        f"or mount it with 'fusenotify mount', or name a socket in {SOCKET_VARIABLE}",
        path,
    )
