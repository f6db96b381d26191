# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's permissions for an object of the mount, as the kernel decides them.

They come from mode bits, groups and the ACL; root may do nearly everything.
fs.paths asks for each component of a path that a client wants to watch, and
engine.trees, through DirectoryPermissions, for directories below a tree watch.
Like the kernel, this uses the modes and owners that the mount shows.  ACLs count
only if the mount enforces them (-o acl); otherwise a file's group bits, which are
its ACL's mask, count as they are.
Linux: fs/namei.c generic_permission(), fs/posix_acl.c posix_acl_permission().
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from fusenotify.credentials import Credentials
from fusenotify.engine import core
from fusenotify.fs.descriptors import Held
from fusenotify.fs.syscalls import path_of
from fusenotify.view import View

READ = 4
WRITE = 2
SEARCH = 1

_ACL = "system.posix_acl_access"
_ACL_HEADER = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")
# Linux: fs/fuse/acl.c fuse_get_acl() asks for one page.  Some filesystems store sixteen pages.
_LONGEST_ACL = os.sysconf("SC_PAGE_SIZE")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32


_PLAIN = View()


def allowed(
    fd: int, status: os.stat_result, who: Credentials, wanted: int, view: View = _PLAIN
) -> bool:
    """Return whether a user has the wanted permissions (READ | WRITE | SEARCH) for fd's object.

    fd may be an O_PATH descriptor; status has the object's attributes, and view
    says how they are shown.

    Raises OSError (E2BIG for an ACL that is too long).
    """
    mode, owner, group = view.shown(status)
    if who.uid == 0:
        # CAP_DAC_OVERRIDE: everything except executing a file that nobody may execute.
        return not wanted & SEARCH or stat.S_ISDIR(mode) or bool(mode & 0o111)
    if who.uid == owner:
        return _grants(mode >> 6, wanted)
    has_acl = view.acl and mode & 0o070 and not stat.S_ISLNK(mode)
    acl = _acl(fd) if has_acl else []
    if acl:
        return _acl_allows(acl, group, who, wanted)
    if _is_member(who, group):
        return _grants(mode >> 3, wanted)
    return _grants(mode, wanted)


class DirectoryPermissions:
    """The present permissions of directories, for engine.trees.  view says how they are shown.

    Nobody has permissions for a directory that is gone from SOURCE.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def may_refuse(self, who: Credentials) -> bool:
        """Return whether there may be directories that the user may not read or search.

        As in allowed(), there is none for root.
        """
        return who.uid != 0

    def may_read(self, directory: core.Inode, who: Credentials) -> bool:
        """Return whether the user may list a directory."""
        return self._may(directory, who, READ)

    def may_search(self, directory: core.Inode, who: Credentials) -> bool:
        """Return whether the user may use the names in a directory."""
        return self._may(directory, who, SEARCH)

    def _may(self, directory: core.Inode, who: Credentials, wanted: int) -> bool:
        assert isinstance(directory, Held)
        try:
            fd = directory.fd
            return allowed(fd, os.fstat(fd), who, wanted, self._view)
        except OSError:
            return False


def _acl_allows(
    acl: list[tuple[int, int, int]], owning_group: int, who: Credentials, wanted: int
) -> bool:
    """Judge a user who is not the owner by the ACL's entries (tag, permissions, id)."""
    mask = next((granted for tag, granted, _ in acl if tag == _MASK), READ | WRITE | SEARCH)
    for tag, granted, user in acl:
        if tag == _USER and user == who.uid:
            return _grants(granted & mask, wanted)
    of_groups = [
        granted
        for tag, granted, group in acl
        if (tag == _GROUP_OBJ and _is_member(who, owning_group))
        or (tag == _GROUP and _is_member(who, group))
    ]
    if of_groups:
        return any(_grants(granted & mask, wanted) for granted in of_groups)
    return any(_grants(granted, wanted) for tag, granted, _ in acl if tag == _OTHER)


def _acl(fd: int) -> list[tuple[int, int, int]]:
    """Return the entries of an object's access ACL; none if it has only mode bits.

    Raises OSError; E2BIG if the ACL is longer than the kernel accepts on the mount.
    """
    try:
        value = os.getxattr(path_of(fd), _ACL)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return []
        raise
    if len(value) > _LONGEST_ACL:
        raise OSError(errno.E2BIG, "its access control list is too long")
    return list(_ACL_ENTRY.iter_unpack(value[_ACL_HEADER.size :]))


def _is_member(who: Credentials, group: int) -> bool:
    return group == who.gid or group in who.groups


def _grants(bits: int, wanted: int) -> bool:
    return bits & wanted == wanted
