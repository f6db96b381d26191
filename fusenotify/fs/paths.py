# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the inode at a client's path, as the kernel resolves it for that user.

The server uses it through fs.mount.  The walk goes from descriptor to
descriptor, so the object that is checked is the one that is watched, whatever is
renamed during the walk.  Linux: fs/namei.c.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from fusenotify.credentials import Credentials
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.permissions import READ, SEARCH, allowed
from fusenotify.view import View

_MAX_LINKS = 40
# The most names on the way: twice as many as a path can have.  Without this limit, forty links to
# paths of the greatest length would keep others waiting for half a second.
_MAX_STEPS = 4096
_MAX_PATH = 4096
_MAX_NAME = 255
# The mode bits of a directory like /tmp.
_SHARED = stat.S_ISVTX | stat.S_IWOTH


_PLAIN = View()


@contextmanager
def resolved(
    inodes: Inodes,
    mountpoint: bytes,
    path: bytes,
    who: Credentials,
    *,
    follow: bool | None,
    directory: bool,
    view: View = _PLAIN,
    covered: Collection[tuple[int, int]] = (),
) -> Iterator[Inode]:
    """Yield the inode at path, for the user who, pinned during the with block.

    path is relative to the mount's root, with or without a leading slash.
    With follow, a symbolic link at its end is followed; with None, none on the way is,
    either.  If the target of a link is absolute and below mountpoint, the walk
    continues at the root.  With directory, the object must be a directory.  view says
    how owners and modes are shown; covered has the (st_dev, st_ino) of objects that
    other filesystems cover.

    Raises OSError: ENOENT, ENOTDIR, EACCES (no search permission on a
    component, no read permission on the object), ELOOP (more than 40 links, or 4,096 names,
    or a link where none is followed), ENAMETOOLONG, EXDEV (a link or ``..`` leaves
    the mount, or the path leads into a place that another filesystem covers), EINVAL
    (a NUL).
    """
    walk = _Walk(inodes, mountpoint, path, who, follow, view, covered)
    try:
        status = os.fstat(walk.fd)
        walk.check_uncovered(status)
        if (directory or walk.wants_directory) and not stat.S_ISDIR(status.st_mode):
            raise _error(errno.ENOTDIR, path)
        if not allowed(walk.fd, status, who, READ, view):
            raise _error(errno.EACCES, path, "no read permission on it")
        inode, _ = inodes.take(os.dup(walk.fd))
    finally:
        walk.close()
    inode.pin()
    try:
        yield inode
    finally:
        inode.unpin()


class _Walk:
    """One walk.  _descriptors has the descriptors from below the root down to the position."""

    def __init__(
        self,
        inodes: Inodes,
        mountpoint: bytes,
        path: bytes,
        who: Credentials,
        follow: bool | None,
        view: View,
        covered: Collection[tuple[int, int]],
    ) -> None:
        if not path:
            raise _error(errno.ENOENT, path, "the path is empty")
        if b"\0" in path:
            raise _error(errno.EINVAL, path, "the path contains NUL")
        if len(path) >= _MAX_PATH:
            raise _error(errno.ENAMETOOLONG, path[:60] + b"...")
        self._path = path
        self._enter = inodes.descriptors.enter
        self._root_fd = inodes.root.fd
        self._mountpoint = mountpoint
        self._who = who
        self._follow = follow
        self._view = view
        self._covered = covered
        self._links = 0
        self._descriptors: list[int] = []
        self._rest = deque(_components(path))
        self.wants_directory = path.endswith(b"/")
        try:
            for _ in range(_MAX_STEPS):
                if not self._rest:
                    return
                self._step(self._rest.popleft())
            raise _error(errno.ELOOP, self._path, f"its links lead over {_MAX_STEPS} names")
        except BaseException:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The descriptor of the walk's position."""
        return self._descriptors[-1] if self._descriptors else self._root_fd

    def close(self) -> None:
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()

    def check_uncovered(self, status: os.stat_result) -> None:
        """Check that no other filesystem covers the object, so that programs find it there, too.

        Raises OSError (EXDEV).
        """
        if (status.st_dev, status.st_ino) in self._covered:
            raise _error(errno.EXDEV, self._path, "another filesystem covers it")

    def _step(self, name: bytes) -> None:
        status = os.fstat(self.fd)
        if name != b"..":
            self.check_uncovered(status)
        if not stat.S_ISDIR(status.st_mode):
            raise _error(errno.ENOTDIR, self._path)
        if not allowed(self.fd, status, self._who, SEARCH, self._view):
            raise _error(errno.EACCES, self._path, f"no search permission above '{_show(name)}'")
        if len(name) > _MAX_NAME:
            raise _error(errno.ENAMETOOLONG, self._path)
        if name == b".":
            return  # the checks above are all that "." needs
        if name == b"..":
            if not self._descriptors:
                raise _error(errno.EXDEV, self._path, "it leaves the mount")
            os.close(self._descriptors.pop())
            return
        try:
            fd = self._enter(name, self.fd)
        except OSError as error:
            raise _error(error.errno or errno.EIO, self._path) from None
        self._descriptors.append(fd)
        if stat.S_ISLNK(os.fstat(fd).st_mode) and (self._rest or self._follow_last()):
            self._enter_link()

    def _follow_last(self) -> bool:
        return bool(self._follow) or self.wants_directory

    def _may_follow_last(self) -> bool:
        """Return whether the link at the position may be followed.  Linux: may_follow_link()."""
        owner = self._view.shown(os.fstat(self.fd)).st_uid
        directory = self._descriptors[-2] if self._descriptors[1:] else self._root_fd
        above = self._view.shown(os.fstat(directory))
        return (
            owner in (self._who.uid, above.st_uid)
            or above.st_mode & _SHARED != _SHARED
            or not _symlinks_are_protected()
        )

    def _enter_link(self) -> None:
        """Go on with the target of the link at the position."""
        self._links += 1
        if self._links > _MAX_LINKS:
            raise _error(errno.ELOOP, self._path)
        if not self._rest and not self._may_follow_last():
            raise _error(errno.EACCES, self._path, "fs.protected_symlinks forbids following it")
        if not self._view.follows_links:
            raise _error(errno.ELOOP, self._path, "the mount is nosymfollow")
        if self._follow is None:
            raise _error(errno.ELOOP, self._path, "a symbolic link is on the way")
        target = os.readlink(b"", dir_fd=self.fd)
        if not self._rest and target.endswith(b"/"):
            self.wants_directory = True
        os.close(self._descriptors.pop())
        if target.startswith(b"/"):
            below = self._mountpoint.rstrip(b"/") + b"/"
            if not (target + b"/").startswith(below):
                shown = _show(target)
                raise _error(errno.EXDEV, self._path, f"the link to '{shown}' leaves the mount")
            target = target[len(below) :]
            self.close()
        self._rest.extendleft(reversed(_components(target)))


def _symlinks_are_protected() -> bool:
    """Return whether links of other users in shared directories may not be followed."""
    with open("/proc/sys/fs/protected_symlinks", "rb") as setting:
        return setting.read(1) != b"0"


def _components(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name]


def _show(name: bytes) -> str:
    return name.decode(errors="backslashreplace")  # messages are text


def _error(code: int, path: bytes, why: str = "") -> OSError:
    return OSError(code, f"{why or os.strerror(code)}: '{_show(path)}'")
