# SPDX-License-Identifier: GPL-2.0-or-later
"""A change to SOURCE that no kernel tells of: somebody says that there was one at a path.

For the other side of a shared folder, a network filesystem's server, a copy that came by rsync.
fs.mount calls this; what is there is looked at and told to engine.hooks, and the kernel forgets
what was.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import pyfuse3

from fusenotify.bits import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
)
from fusenotify.credentials import Process
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.in_order import telling
from fusenotify.fs.inodes import Inode, Inodes

# What can be said, in the order in which it is told.
HAPPENED = (IN_ATTRIB, IN_MODIFY, IN_CLOSE_WRITE)
CAN_BE_SAID = IN_CREATE | IN_DELETE | IN_ATTRIB | IN_MODIFY | IN_CLOSE_WRITE


def notify(inodes: Inodes, hooks: Hooks, path: bytes, what: int) -> None:
    """Tell what somebody says was done at a path of SOURCE; what is 0 for what is found there.

    Raises OSError: EINVAL (what cannot be said, or it is SOURCE itself), ENOENT (no directory is
    there, or nothing was and is), ENOTDIR.
    """
    if what & ~CAN_BE_SAID:
        raise OSError(
            errno.EINVAL, "only create, delete, attrib, modify and close_write can be said"
        )
    hooks.by(Process(0, -1, -1, None, behind=True))
    with telling(hooks):
        _notify(inodes, hooks, path, what)


def _notify(inodes: Inodes, hooks: Hooks, path: bytes, what: int) -> None:
    *above, name = [part for part in path.split(b"/") if part] or [b""]
    if not name or b".." in (*above, name) or b"." in (*above, name):
        raise OSError(errno.EINVAL, "say a path below the root of the mount, without . and ..")
    parent = inodes.root
    for part in above:
        parent, _ = inodes.lookup(parent, part)
    if not parent.is_dir:
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    known = parent.children.get(name) if parent.children else None
    before = known.inode if known is not None else None
    now: Inode | None = None
    with suppress(FileNotFoundError):
        now, _ = inodes.find(parent, name)
    if not what and now is None and before is None:
        raise OSError(errno.ENOENT, "nothing is there, and nothing was known to be")
    if before is not None and before is not now and isinstance(before, Inode):
        _removed(hooks, parent, name, before)
        _forget(before)
        inodes.drop_if_unused(before)
    elif now is None and what & IN_DELETE:
        hooks.happened_to_name(parent, name, IN_DELETE)
    if now is not None:
        _told(hooks, parent, name, now, what, is_new=now is not before)
        _forget(now)
        inodes.drop_if_unused(now)
    _forget(parent)
    pyfuse3.invalidate_entry_async(pyfuse3.InodeT(parent.number), name, ignore_enoent=True)
    inodes.drop_if_unused(parent)


def _told(
    hooks: Hooks, parent: Inode, name: bytes, inode: Inode, what: int, *, is_new: bool
) -> None:
    if is_new and (not what or what & IN_CREATE):
        hooks.created(parent, name, inode)
    if not what and not is_new:
        what = IN_ATTRIB if inode.is_dir else IN_MODIFY
    dentry = parent.children.get(name) if parent.children else None
    if dentry is None or dentry.inode is not inode:
        dentry = hooks.core.instantiate(parent, name, inode)
    for bit in HAPPENED:
        if what & bit:
            hooks.happened(inode, dentry, bit)


def _removed(hooks: Hooks, parent: Inode, name: bytes, inode: Inode) -> None:
    if inode.is_dir:
        hooks.removed_directory(parent, name, inode)
    else:
        links = 0
        with suppress(OSError):
            links = os.fstat(inode.fd).st_nlink
        hooks.unlinked(parent, name, inode, links)


def _forget(inode: Inode) -> None:
    """Have the kernel forget attributes, and data where they differ."""
    if inode.lookups > 0:
        with suppress(OSError):  # it is being forgotten, or unmounted meanwhile
            pyfuse3.invalidate_inode(pyfuse3.InodeT(inode.number), attr_only=True)
