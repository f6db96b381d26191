# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of SOURCE that no kernel reports: a client reports that there was one at a path.

For example changes by the other side of a shared folder, or by a network filesystem's server.
fs.mount calls notify(), which looks at the path, tells the change to engine.hooks and makes the
kernel forget the old state.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import pyfuse3
import trio

from fusenotify.bits import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
)
from fusenotify.credentials import Process
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.behind.in_order import telling
from fusenotify.fs.inodes import Inode, Inodes

# Events that can be reported, besides IN_CREATE and IN_DELETE, in the order in which they are told.
HAPPENED = (IN_ATTRIB, IN_MODIFY, IN_CLOSE_WRITE)
CAN_BE_SAID = IN_CREATE | IN_DELETE | IN_ATTRIB | IN_MODIFY | IN_CLOSE_WRITE


async def notify(inodes: Inodes, hooks: Hooks, path: bytes, what: int) -> None:
    """Tell a change at a path of SOURCE, relative to it; what has the bits of events.

    Returns when the kernel has forgotten the old state.

    If what is 0, the change is found out by comparing the path with what is known of it.

    Raises OSError: EINVAL if what has other bits, or if path is SOURCE itself or has ., .. or NUL;
    ENOENT if its directory does not exist, or if the object does not exist and is not known;
    ENOTDIR.
    """
    if what & ~CAN_BE_SAID:
        raise OSError(
            errno.EINVAL, "only create, delete, attrib, modify and close_write can be reported"
        )
    hooks.by(Process(0, -1, -1, None, behind=True))
    with telling(hooks):
        forget = _notify(inodes, hooks, path, what)
    # In a thread, because the kernel waits for locks (behind.forgetting).
    await trio.to_thread.run_sync(_forget, *forget, abandon_on_cancel=True)


def _notify(
    inodes: Inodes, hooks: Hooks, path: bytes, what: int
) -> tuple[list[int], int, bytes | None]:
    """Return the numbers of what may have changed, the number of the directory, and the name.

    The name is None if it belongs to the same object as before: forgetting it would unmount what is
    mounted below it, and take the paths of open files away.
    """
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a path has no NUL bytes")
    *above, name = [part for part in path.split(b"/") if part] or [b""]
    if not name or b".." in (*above, name) or b"." in (*above, name):
        raise OSError(errno.EINVAL, "the path must be below the mount's root, without . and ..")
    parent = inodes.root
    for part in above:
        parent, _ = inodes.lookup(parent, part)
    if not parent.is_dir:
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    known = parent.children.get(name) if parent.children else None
    before = known.inode if known is not None else None
    now: Inode | None = None
    numbers: list[int] = []
    with suppress(FileNotFoundError):
        now, _ = inodes.find(parent, name)
    if not what and now is None and before is None:
        raise OSError(errno.ENOENT, "the path does not exist, and was not known before")
    if before is not None and before is not now and isinstance(before, Inode):
        _removed(hooks, parent, name, before)
        numbers.append(before.number)
        inodes.drop_if_unused(before)
    elif now is None and what & IN_DELETE:
        hooks.happened_to_name(parent, name, IN_DELETE)
    if now is not None:
        _told(hooks, parent, name, now, what, is_new=now is not before)
        numbers.append(now.number)
        inodes.drop_if_unused(now)
    numbers.append(parent.number)
    inodes.drop_if_unused(parent)
    return numbers, parent.number, None if now is before and now is not None else name


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


def _forget(numbers: list[int], parent: int, name: bytes | None) -> None:
    """Make the kernel forget attributes and data of objects, and a name."""
    for number in numbers:
        with suppress(OSError):  # the kernel does not know it, or the mount is gone
            pyfuse3.invalidate_inode(pyfuse3.InodeT(number))
    if name is not None:
        with suppress(OSError):
            pyfuse3.invalidate_entry(pyfuse3.InodeT(parent), name)
