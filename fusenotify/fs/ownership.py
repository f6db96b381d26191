# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns a new object, and when set-id bits go: what the kernel would have done.

The daemon does everything in its own name; fs.operations and fs.file_requests
call these functions to make it look as if the caller had.
"""

from __future__ import annotations

import os
import stat

import pyfuse3
from pyfuse3 import RequestContext

from fusenotify.fs.handles import OpenFile
from fusenotify.fs.inodes import Inode
from fusenotify.fs.syscalls import path_of

_SET_ID = stat.S_ISUID | stat.S_ISGID


def give_to_caller(made: int | bytes, parent: Inode, ctx: RequestContext, mode: int) -> None:
    """Make the caller the owner of a new object, a descriptor or a name in parent.

    In a set-gid directory the group has come from there.  Set-id bits,
    which chown() clears, are put back.  A daemon that is not root cannot,
    and what is made through its mount is its own.
    """
    uid = os.geteuid()
    if uid or (ctx.uid == uid and ctx.gid == os.getegid()):
        return
    inherits = os.fstat(parent.fd).st_mode & stat.S_ISGID
    gid = -1 if inherits else ctx.gid
    if isinstance(made, int):
        os.chown(made, ctx.uid, gid)
    else:
        os.chown(made, ctx.uid, gid, dir_fd=parent.fd, follow_symlinks=False)
    if mode & _SET_ID:
        if isinstance(made, int):
            os.chmod(made, stat.S_IMODE(mode))
        else:
            os.chmod(made, stat.S_IMODE(mode), dir_fd=parent.fd)


def clear_set_id(file: OpenFile, mode: int, ctx: RequestContext) -> bool:
    """Do what O_TRUNC by an ordinary user does to a set-id file.

    Linux: file_remove_privs().  Returns whether bits were lost.
    """
    if ctx.uid == 0:
        return False
    lost = mode & stat.S_ISUID
    if mode & stat.S_ISGID and (mode & stat.S_IXGRP or not _owns_as_group(file, ctx)):
        lost |= stat.S_ISGID
    if not lost:
        return False
    os.chmod(path_of(file.fd), stat.S_IMODE(mode & ~lost))
    return True


def _owns_as_group(file: OpenFile, ctx: RequestContext) -> bool:
    group = os.fstat(file.fd).st_gid
    return group == ctx.gid or group in pyfuse3.get_sup_groups(ctx.pid)
