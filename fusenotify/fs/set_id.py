# SPDX-License-Identifier: GPL-2.0-or-later
"""The set-id bits that a file may get, and those that it loses by writes and other changes.

fs.negotiation has asked the kernel to leave the removal to us.  fs.attribute_requests and
fs.file_requests call this before and after writes, truncations and changes of owner.

Invariants
    If a daemon that is not root may not remove bits itself, it leaves that to
        SOURCE's kernel; bits that are reported as lost are lost there.
    A bit that the mount's view does not show (View.hidden_set_id()) is about a
        user or group of SOURCE that the kernel has not checked.  So no such bit
        can be set through the mount: chmod gives EPERM, and new files are made
        without it.  Existing ones are removed with the first byte that anybody
        writes.  They are also removed when somebody sets a mode or an ACL, as
        that may let others write in SOURCE itself, where stores to a mapping
        remove no bits.  A file's capabilities are removed in the same way.

Linux: setattr_should_drop_suidgid(), setattr_should_drop_sgid(),
posix_acl_update_mode().
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from pyfuse3 import FUSEError, RequestContext

from fusenotify.fs.processes import status_of
from fusenotify.fs.syscalls import path_of
from fusenotify.view import SET_ID, View

CAPABILITY = "security.capability"

_CAP_FSETID = 1 << 4


def settable_mode(mode: int, before: os.stat_result, view: View, ctx: RequestContext) -> int:
    """Return the mode that chmod may give to an object, whose status was before.

    A user who is not in the object's group sets no set-gid bit, since the group may
    be another one than the kernel remembered.

    Raises FUSEError (EPERM) if mode has hidden bits that the object did not have.
    """
    new = mode & SET_ID & ~before.st_mode
    if new & view.hidden_set_id(before.st_uid, before.st_gid):
        raise FUSEError(errno.EPERM)
    if new & stat.S_ISGID and not (_is_member(ctx, before.st_gid) or keeps_set_id(ctx)):
        mode &= ~stat.S_ISGID
    if not stat.S_ISDIR(before.st_mode):
        mode &= ~view.hidden_set_id(before.st_uid, before.st_gid)
    return mode


def strip_unjudged(fd: int, view: View) -> None:
    """Remove a file's hidden bits and capabilities before somebody changes who may write to it.

    Raises OSError.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        strip_hidden(fd, view)
        with suppress(OSError):  # most files have none
            os.removexattr(path_of(fd), CAPABILITY)


def new_mode(mode: int, parent: int, view: View, ctx: RequestContext) -> int:
    """Return mode without the set-id bits that an object made by ctx must not get.

    These are the bits that would be hidden, and the set-gid bit if the directory passes
    on its group and the user is not in that group.  parent is a descriptor of the
    directory.  Linux: mode_strip_sgid().
    """
    if not mode & SET_ID:
        return mode
    directory = os.fstat(parent)
    gid = ctx.gid
    if directory.st_mode & stat.S_ISGID:
        gid = directory.st_gid
        executes = mode & stat.S_IXGRP
        if executes and not (_is_member(ctx, gid) or keeps_set_id(ctx)):
            mode &= ~stat.S_ISGID
    return mode & ~view.hidden_set_id(ctx.uid, gid)


def strip_hidden(fd: int, view: View) -> bool:
    """Remove a file's hidden bits when it is written to; return whether there were some.

    Raises OSError.
    """
    status = os.fstat(fd)
    hidden = status.st_mode & view.hidden_set_id(status.st_uid, status.st_gid)
    if not hidden:
        return False
    os.chmod(path_of(fd), stat.S_IMODE(status.st_mode & ~hidden))
    return True


def strip_by_acl(path: str, before: os.stat_result, group: int, ctx: RequestContext) -> None:
    """Remove the set-gid bit of an object that gets an access ACL from a user not in its group.

    before is the object's status before that, group its group as it is shown.

    Raises OSError.
    """
    if before.st_mode & stat.S_ISGID and not (_is_member(ctx, group) or keeps_set_id(ctx)):
        mode = os.stat(path).st_mode  # with the ACL's bits
        os.chmod(path, stat.S_IMODE(mode & ~stat.S_ISGID))


def keeps_set_id(ctx: RequestContext) -> bool:
    """Return whether bits stay when ctx changes a file's contents: CAP_FSETID.

    Only root can have it: /proc shows the capabilities of the root of a user namespace
    as if they held here.
    """
    effective = status_of(ctx.pid).get(b"CapEff")
    return not ctx.uid and (effective is None or bool(int(effective, 16) & _CAP_FSETID))


def strip_set_id(fd: int, before: os.stat_result, ctx: RequestContext) -> bool:
    """Remove the bits that an object, whose status was before, does not keep.

    Returns whether bits are lost.  Raises OSError.
    """
    lost = before.st_mode & stat.S_ISUID
    if before.st_mode & stat.S_ISGID and not _keeps_set_gid(before, ctx):
        lost |= stat.S_ISGID
    if not lost or stat.S_ISDIR(before.st_mode):
        return False
    mode = os.fstat(fd).st_mode
    if mode & lost:
        with suppress(PermissionError):
            os.chmod(path_of(fd), stat.S_IMODE(mode & ~lost))
            return True
    return not mode & lost


def _keeps_set_gid(before: os.stat_result, ctx: RequestContext) -> bool:
    """Return whether the set-gid bit stays.

    It may stay only without group execution, where it once meant mandatory locking; and it
    does for members of the group, and for a ctx that keeps set-id bits.
    """
    if before.st_mode & stat.S_IXGRP:
        return False
    return _is_member(ctx, before.st_gid) or keeps_set_id(ctx)


def _is_member(ctx: RequestContext, group: int) -> bool:
    return group == ctx.gid or b"%d" % group in status_of(ctx.pid).get(b"Groups", b"").split()
