# SPDX-License-Identifier: GPL-2.0-or-later
"""In whose name SOURCE is written to, as the kernel would have it.

The requests (fs.operations and others) do AsUser what takes room or makes an object;
fs.mount gives up at the start what would lift limits for everybody.

Invariants
    The kernel has checked what the caller may do (default_permissions), so the
        daemon keeps its capabilities in a user's name: it has not their groups.
    Whose an object is, the kernel has checked as it remembered it.  So what is
        for its owner alone, SOURCE's kernel judges again in the very call:
        there the daemon has neither CAP_FOWNER nor CAP_CHOWN (by_owner()).
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

_OWN_UMASK = 0  # that of fs.mount
_OWN_UID, _OWN_GID = os.geteuid(), os.getegid()  # a daemon never changes them
# What lets others do what is for the owner.
_OWNERS = (CAP_CHOWN, CAP_FOWNER)
_ENOUGH = 64 << 20  # bytes: many writes, for others' that come between


class AsUser:
    """A block in which SOURCE sees a user: owner, group, umask, quota, reserved room.

    So a default ACL takes the umask's place, and a set-gid directory gives its
    group, where they do on Linux.  A daemon that is not root has only the
    umask: what is made through its mount is its own.

    Linux: inode_init_owner(), posix_acl_create().  Nothing in it awaits.
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
        """Who makes a request."""
        return cls(ctx.uid, ctx.gid, ctx.umask)

    def __enter__(self) -> None:
        if self._umask:
            os.umask(self._umask)
        if not _OWN_UID:
            set_fs_gid(self._gid)  # and stays: nothing is made but in somebody's name
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
    """Do what is for owners in the caller's name, as SOURCE's kernel judges it.

    about returns what the objects are.  Where some are others', and the caller has
    the capability about them that the kernel may have gone by (as a container's root
    has), it is done all the same.  gid, in place of the caller's, is a group
    that the kernel took the caller for a member of.

    Raises OSError, EPERM among others.
    """
    gid = ctx.gid if gid is None else gid
    if not ctx.uid or _OWN_UID:  # who may do what owners may, or whom SOURCE judges anyway
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
    """Return whether what a write takes may be room that is kept for root.

    Asking takes half a microsecond, being AsUser six.
    """
    room = os.fstatvfs(fd)
    return room.f_bavail * room.f_frsize < _ENOUGH
