# SPDX-License-Identifier: GPL-2.0-or-later
"""Which set-id bits a file may get, and when they go: written to, truncated, given to others.

fs.negotiation has asked the kernel to leave the latter to us; fs.attribute_requests and
fs.file_requests ask here before and behind such requests.

Invariants
    A daemon that is not root leaves bits to SOURCE's kernel where it may not
        take them itself; what is reported lost is lost there.
    A bit that the mount's view would not show (View.hidden_set_id()) means
        somebody in SOURCE whom the kernel did not judge by.  So none is set
        through the mount, whichever way it comes: chmod is EPERM, what is new
        is made without; and those that are there go with the first byte that
        is written, whoever writes it, and with a mode or an ACL that somebody
        gives, who may let others write in SOURCE itself, where stores to a
        mapping take no bits.  A file's capabilities go the same way.

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
    """Return the mode that chmod may give to an object that was as before says.

    Who is not of its group gives no set-gid bit: the group may be another than
    the kernel remembered.

    Raises FUSEError, EPERM, where it has hidden bits that are not there yet.
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
    """Take hidden bits and capabilities before somebody says who may write to a file.

    Raises OSError.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        strip_hidden(fd, view)
        with suppress(OSError):  # most often it has none
            os.removexattr(path_of(fd), CAPABILITY)


def new_mode(mode: int, parent: int, view: View, ctx: RequestContext) -> int:
    """Return mode without the bits that do not go to what ctx makes in a directory.

    They are those that would be hidden, and set-gid for the group of the directory, of
    which parent is a descriptor, where that gives its group to one who is not of it.
    Linux: mode_strip_sgid().
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
    """Take a file's hidden bits as it is written to; return whether there were some.

    Raises OSError.
    """
    status = os.fstat(fd)
    hidden = status.st_mode & view.hidden_set_id(status.st_uid, status.st_gid)
    if not hidden:
        return False
    os.chmod(path_of(fd), stat.S_IMODE(status.st_mode & ~hidden))
    return True


def strip_by_acl(path: str, before: os.stat_result, group: int, ctx: RequestContext) -> None:
    """Take the set-gid bit of what gets an access ACL from somebody outside its group, as shown.

    Raises OSError.
    """
    if before.st_mode & stat.S_ISGID and not (_is_member(ctx, group) or keeps_set_id(ctx)):
        mode = os.stat(path).st_mode  # with the ACL's bits
        os.chmod(path, stat.S_IMODE(mode & ~stat.S_ISGID))


def keeps_set_id(ctx: RequestContext) -> bool:
    """Return whether bits stay where ctx changes what is in a file: CAP_FSETID.

    Only root is asked for it: the root of a user namespace has it there, which
    /proc shows as if it had it here.
    """
    effective = status_of(ctx.pid).get(b"CapEff")
    return not ctx.uid and (effective is None or bool(int(effective, 16) & _CAP_FSETID))


def strip_set_id(fd: int, before: os.stat_result, ctx: RequestContext) -> bool:
    """Take from an object, which was as before says, what it does not keep of its bits.

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
    """Return whether the bit says that locks are mandatory, as it once did, to one of the group."""
    if before.st_mode & stat.S_IXGRP:
        return False
    return _is_member(ctx, before.st_gid) or keeps_set_id(ctx)


def _is_member(ctx: RequestContext, group: int) -> bool:
    return group == ctx.gid or b"%d" % group in status_of(ctx.pid).get(b"Groups", b"").split()
