# SPDX-License-Identifier: GPL-2.0-or-later
"""The user in whose name SOURCE is changed, as on a local filesystem.

Requests (fs.operations and others) act AsUser when they take room or make an
object.  fs.mount gives up the capability that would lift limits for everybody.

Invariants
    The kernel has checked what the caller may do (default_permissions).  So the
        daemon keeps its capabilities when it acts as a user, since it does not
        have the user's groups.
    The kernel has checked the owner of an object as it remembers it.  So for
        operations that only the owner may do, SOURCE's kernel checks again in
        the call itself: in it, the daemon has neither CAP_FOWNER nor CAP_CHOWN
        (by_owner()).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from types import TracebackType

from pyfuse3 import RequestContext

from fusenotify.fs.processes import is_capable
from fusenotify.fs.syscalls import (
    CAP_CHOWN,
    CAP_FOWNER,
    regain_capabilities,
    set_fs_gid,
    set_fs_uid,
)

_OWN_UMASK = 0  # fs.mount sets it
_OWN_UID, _OWN_GID = os.geteuid(), os.getegid()  # a daemon never changes them
# The capabilities with which a user may do what only the owner may do.
_OWNERS = (CAP_CHOWN, CAP_FOWNER)
_ENOUGH = 64 << 20  # in bytes: room for many writes, since those of others may come first


class AsUser:
    """A context manager in which SOURCE sees a user: owner, group, umask, quota, reserved room.

    So a default ACL replaces the umask, and a set-gid directory passes on its group, as
    on Linux.  A daemon that is not root sets only the umask: objects that are made through
    its mount belong to it.

    Nothing may await in it.  Linux: inode_init_owner(), posix_acl_create().
    """

    __slots__ = ("_gid", "_is_other", "_uid", "_umask", "_without")

    def __init__(
        self, uid: int, gid: int, umask: int = _OWN_UMASK, *, as_owner: bool = True
    ) -> None:
        self._uid = uid
        self._gid = gid
        self._umask = umask
        self._is_other = uid and not _OWN_UID
        self._without = () if as_owner else _OWNERS

    @classmethod
    def calling(cls, ctx: RequestContext) -> AsUser:
        """Return the context manager for the user who makes a request."""
        return cls(ctx.uid, ctx.gid, ctx.umask)

    def __enter__(self) -> None:
        if self._umask:
            os.umask(self._umask)
        if not _OWN_UID:
            set_fs_gid(self._gid)  # it is not set back: objects are only made AsUser
            if self._is_other:
                set_fs_uid(self._uid)
                regain_capabilities(*self._without)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._is_other:
            set_fs_uid(_OWN_UID)
        if self._umask:
            os.umask(_OWN_UMASK)


def by_owner(
    ctx: RequestContext,
    act: Callable[[], None],
    about: Callable[[], Iterable[os.stat_result]],
    *,
    gid: int | None = None,
    capability: int = CAP_FOWNER,
) -> None:
    """Call act, which only owners may do, in the caller's name, so that SOURCE's kernel judges it.

    about returns the status of the objects.  If some belong to others, but the caller
    has the capability for them that the mount's kernel may have relied on (as the root
    of a container has), it is done nevertheless.  gid replaces the caller's group; the
    kernel has found that the caller is a member of it.

    Raises OSError, such as EPERM.
    """
    gid = ctx.gid if gid is None else gid
    if not ctx.uid or _OWN_UID:  # root may, and a daemon that is not root is judged anyway
        if not _OWN_UID:
            set_fs_gid(gid)
        act()
        return
    try:
        with AsUser(ctx.uid, gid, as_owner=False):
            act()
    except PermissionError as refusal:
        if refusal.errno != errno.EPERM:
            raise
        others = [status for status in about() if status.st_uid != ctx.uid]
        if not others or not all(is_capable(ctx.pid, capability, status) for status in others):
            raise
        with AsUser(ctx.uid, gid):
            act()


def is_short_of_room(fd: int) -> bool:
    """Return whether a write may take room that is kept for root.

    This takes half a microsecond, acting AsUser takes six.
    """
    room = os.fstatvfs(fd)
    return room.f_bavail * room.f_frsize < _ENOUGH
