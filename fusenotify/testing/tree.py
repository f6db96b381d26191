# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree that consists only of inodes of the engine: no files, no FUSE, no daemon.

Its methods are a program's system calls: each changes the tree and calls the
engine's hook, as fs.operations does; a call that fails calls no hook.  For
everything that has no method, use core, hooks and table.

Paths are relative to the root; a leading ``/`` changes nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from fusenotify.bits import IN_ONLYDIR
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.device import AnyDevice, DeviceTable
from fusenotify.engine.exclusion import Exclusion
from fusenotify.engine.hooks import File, Hooks
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_6, Policy, semantics
from fusenotify.events import MOST_BYTES
from fusenotify.testing import register
from fusenotify.testing.expectations import Seen
from fusenotify.testing.watching import AnyPath, Watcher


class TreeInode(Inode):
    """An inode that counts its names."""

    __slots__ = ("links",)

    def __init__(self, is_dir: bool) -> None:
        super().__init__(is_dir)
        self.links = 1


class OpenFile:
    """An open description.  The end of its with block closes it."""

    def __init__(self, hooks: Hooks, inode: TreeInode, writable: bool) -> None:
        self.file = File(inode, writable)
        self._hooks = hooks
        self._closed = False
        hooks.opened(self.file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self) -> None:
        """Read at least one byte.

        Raises OSError (EBADF) if it was closed.
        """
        self._check_open()
        self._hooks.accessed(self.file)

    def write(self) -> None:
        """Write at least one byte.

        Raises OSError (EBADF) if it was closed or is not open for writing.
        """
        self._check_open()
        if not self.file.writable:
            raise OSError(errno.EBADF, "the file is not open for writing")
        self._hooks.modified(self.file)

    def close(self) -> None:
        """Close the last descriptor.  Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._hooks.closed(self.file)

    def _check_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the file was closed")


class EngineDevice(Watcher):
    """A device of the engine: raw is a Device or a DetailedDevice."""

    raw: Any

    def __init__(self, raw: AnyDevice, tree: EngineTree) -> None:
        super().__init__(tree, isinstance(raw, DetailedDevice))
        self.raw = raw
        self._tree = tree

    def sync(self) -> None:
        """Do nothing: all events are queued at once."""

    def give_up(self) -> None:
        """Nothing is under way."""

    def _read(self) -> list[Seen]:
        if isinstance(self.raw, DetailedDevice):
            return self._seen_whole(self.raw.read_events(MOST_BYTES))
        return self._seen(self.raw.read(MOST_BYTES))

    def _relative(self, path: bytes) -> bytes:
        return path.lstrip(b"/") or b"."

    def _add_watch(
        self,
        path: bytes,
        mask: int,
        tree: bool,
        exclude: Iterable[str | bytes],
        ignore_self: bool,
    ) -> int:
        if ignore_self:
            raise OSError(errno.EOPNOTSUPP, "ignore_self: events of this tree have no process")
        self.raw.check_mask(mask)
        inode = self._tree.inode(path)
        if (tree or mask & IN_ONLYDIR) and not inode.is_dir:
            raise _error(errno.ENOTDIR, path)
        patterns = [os.fsencode(pattern) for pattern in exclude]
        exclusion = Exclusion(patterns) if patterns else None
        wd: int = self.raw.add_watch(inode, mask, tree=tree, exclusion=exclusion)
        return wd


class EngineTree:
    """A tree and its engine.

    limits and policy are those of a mount; root is the root's inode.  Methods
    raise OSError with the errno of the system call that they stand for.
    """

    def __init__(self, limits: Limits | None = None, policy: Policy = LINUX_6) -> None:
        self.name = "an engine"
        self.core = Core()
        self.hooks = Hooks(self.core)
        self.table = DeviceTable(self.core, limits or Limits(), policy)
        self.root = TreeInode(is_dir=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def device(
        self,
        *,
        uid: int = 0,
        max_queued_events: int | None = None,
        semantics: str | None = None,
        detailed: bool = False,
    ) -> EngineDevice:
        """Return a new device, counted against uid.  A detailed one has one event for a rename.

        Raises TooManyInstances (EMFILE), ValueError for an unknown semantics.
        """
        init = self.table.init_detailed if detailed else self.table.init
        raw = init(uid, policy=_policy(semantics), max_queued_events=max_queued_events)
        device = EngineDevice(raw, self)
        register.enter(device)
        return device

    def inode(self, path: AnyPath) -> TreeInode:
        """Return the inode at a path.

        Raises OSError: ENOENT, ENOTDIR.
        """
        found = self.root
        for name in _names(path):
            if not found.is_dir:
                raise _error(errno.ENOTDIR, path)
            child = _child(found, name)
            if child is None:
                raise _error(errno.ENOENT, path)
            found = child
        return found

    # Without events.

    def prepare(self, *paths: AnyPath) -> None:
        """Make files, or directories for paths that end in ``/``, and all directories above them.

        This causes no events.  Existing files and directories stay.
        """
        for path in paths:
            directory, names = self.root, _names(path)
            for number, name in enumerate(names, 1):
                if not directory.is_dir:
                    raise _error(errno.ENOTDIR, path)
                child = _child(directory, name)
                if child is None:
                    is_dir = number < len(names) or os.fsencode(path).endswith(b"/")
                    child = TreeInode(is_dir)
                    self.core.instantiate(directory, name, child)
                directory = child

    # Names.

    def create(self, path: AnyPath) -> TreeInode:
        """mknod(2), symlink(2), or the part of open(2) that makes a file."""
        return self._create(path, is_dir=False)

    def mkdir(self, path: AnyPath) -> TreeInode:
        """mkdir(2)."""
        return self._create(path, is_dir=True)

    def link(self, old: AnyPath, new: AnyPath) -> None:
        """link(2)."""
        inode = self.inode(old)
        parent, name = self._free(new)
        if inode.is_dir:
            raise _error(errno.EPERM, old)
        inode.links += 1
        self.hooks.linked(inode, parent, name)

    def unlink(self, path: AnyPath) -> None:
        """unlink(2)."""
        parent, name, inode = self._entry(path)
        if inode.is_dir:
            raise _error(errno.EISDIR, path)
        inode.links -= 1
        self.hooks.unlinked(parent, name, inode, inode.links)

    def rmdir(self, path: AnyPath) -> None:
        """rmdir(2)."""
        parent, name, inode = self._entry(path)
        _check_empty_directory(inode, path)
        inode.links = 0
        self.hooks.removed_directory(parent, name, inode)

    def rename(self, old: AnyPath, new: AnyPath) -> None:
        """rename(2); it replaces an object at new."""
        old_parent, old_name, inode = self._entry(old)
        parent, name = self._parent(new)
        if inode in self._above(new):
            raise _error(errno.EINVAL, new)
        replaced = _child(parent, name)
        if replaced is inode:
            return  # two names of one file: rename(2) does nothing
        if replaced is not None:
            if inode.is_dir:
                _check_empty_directory(replaced, new)
            elif replaced.is_dir:
                raise _error(errno.EISDIR, new)
            replaced.links -= 1
        links = replaced.links if replaced is not None else 0
        self.hooks.renamed(old_parent, old_name, parent, name, inode, replaced, links)

    def exchange(self, one: AnyPath, other: AnyPath) -> None:
        """renameat2(2) with RENAME_EXCHANGE."""
        entry, other_entry = self._entry(one), self._entry(other)
        if entry[2] in self._above(other) or other_entry[2] in self._above(one):
            raise _error(errno.EINVAL, other)
        if entry[2] is not other_entry[2]:
            self.hooks.exchanged(*entry, *other_entry)

    # Files.

    def open(self, path: AnyPath, *, writable: bool = False, truncate: bool = False) -> OpenFile:
        """open(2) of an existing object, or opendir(3); truncate is O_TRUNC."""
        inode = self.inode(path)
        if inode.is_dir and (writable or truncate):
            raise _error(errno.EISDIR, path)
        file = OpenFile(self.hooks, inode, writable)
        if truncate:
            self.hooks.truncated_by_open(file.file, set_id_bits_lost=False)
        return file

    def write(self, path: AnyPath) -> None:
        """Open a file for writing, write, close it."""
        with self.open(path, writable=True) as file:
            file.write()

    def truncate(self, path: AnyPath) -> None:
        """truncate(2)."""
        inode = self.inode(path)
        if inode.is_dir:
            raise _error(errno.EISDIR, path)
        self.hooks.attributes_changed(inode, inode.dentry, size=True)

    # Attributes.

    def chmod(self, path: AnyPath) -> None:
        """chmod(2), chown(2)."""
        inode = self.inode(path)
        self.hooks.attributes_changed(inode, inode.dentry, owner_or_mode=True)

    def utime(self, path: AnyPath, *, atime: bool = True, mtime: bool = True) -> None:
        """utimensat(2) of one time or both."""
        inode = self.inode(path)
        self.hooks.attributes_changed(inode, inode.dentry, atime=atime, mtime=mtime)

    def setxattr(self, path: AnyPath) -> None:
        """setxattr(2), removexattr(2)."""
        self.hooks.xattr_changed(self.inode(path))

    # The end.

    def unmount(self) -> None:
        """umount(2)."""
        self.hooks.unmounted(list(_all_below(self.root)))

    def _create(self, path: AnyPath, is_dir: bool) -> TreeInode:
        parent, name = self._free(path)
        inode = TreeInode(is_dir)
        self.hooks.created(parent, name, inode)
        return inode

    def _parent(self, path: AnyPath) -> tuple[TreeInode, bytes]:
        """Return the directory of a path's last name, and that name."""
        names = _names(path)
        if not names:
            raise _error(errno.EBUSY, path)  # the root cannot be made, removed or renamed
        parent = self.inode(b"/".join(names[:-1]))
        if not parent.is_dir:
            raise _error(errno.ENOTDIR, path)
        return parent, names[-1]

    def _free(self, path: AnyPath) -> tuple[TreeInode, bytes]:
        parent, name = self._parent(path)
        if _child(parent, name) is not None:
            raise _error(errno.EEXIST, path)
        return parent, name

    def _entry(self, path: AnyPath) -> tuple[TreeInode, bytes, TreeInode]:
        parent, name = self._parent(path)
        inode = _child(parent, name)
        if inode is None:
            raise _error(errno.ENOENT, path)
        return parent, name, inode

    def _above(self, path: AnyPath) -> list[TreeInode]:
        """Return the directories above a path."""
        names = _names(path)
        return [self.inode(b"/".join(names[:depth])) for depth in range(len(names))]


def _policy(name: str | None) -> Policy | None:
    return None if name is None else semantics(name)


def _names(path: AnyPath) -> list[bytes]:
    return [name for name in os.fsencode(path).split(b"/") if name not in (b"", b".")]


def _child(directory: TreeInode, name: bytes) -> TreeInode | None:
    dentry = (directory.children or {}).get(name)
    if dentry is None:
        return None
    assert isinstance(dentry.inode, TreeInode)
    return dentry.inode


def _check_empty_directory(inode: TreeInode, path: AnyPath) -> None:
    if not inode.is_dir:
        raise _error(errno.ENOTDIR, path)
    if inode.children:
        raise _error(errno.ENOTEMPTY, path)


def _all_below(inode: Inode) -> Iterator[Inode]:
    yield inode
    for dentry in (inode.children or {}).values():
        yield from _all_below(dentry.inode)


def _error(code: int, path: AnyPath) -> OSError:
    return OSError(code, os.strerror(code), os.fsdecode(path))
