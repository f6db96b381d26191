# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree in memory, with the real engine: what tests of server and clients watch."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from fusenotify.credentials import Credentials
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.hooks import Hooks
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_6, Policy
from fusenotify.heard import OFF, Heard


class MemoryInode(Inode):
    """An inode with a link's target, and readable or not."""

    __slots__ = ("pins", "readable", "target")

    def __init__(self, is_dir: bool, target: bytes | None = None, readable: bool = True) -> None:
        super().__init__(is_dir)
        self.target = target
        self.readable = readable
        self.pins = 0

    def pin(self) -> None:
        self.pins += 1

    def unpin(self) -> None:
        self.pins -= 1


class MemoryTree:
    """Offers the server what a mount does; events come from calls of make() and remove().

    fence() calls on_fence where a test set it.
    """

    def __init__(self, policy: Policy = LINUX_6, limits: Limits | None = None) -> None:
        self.core = Core()
        self.hooks = Hooks(self.core)
        self.table = DeviceTable(self.core, limits or Limits(), policy)
        self.root = MemoryInode(is_dir=True)
        self.on_fence: Callable[[], object] | None = None

    def make(
        self,
        path: str,
        *,
        directory: bool = False,
        target: bytes | None = None,
        readable: bool = True,
    ) -> MemoryInode:
        """Create an object, IN_CREATE included."""
        parent, _, name = path.strip("/").rpartition("/")
        inode = MemoryInode(directory, target, readable)
        self.hooks.created(self._find(os.fsencode(parent)), os.fsencode(name), inode)
        return inode

    def remove(self, path: str) -> None:
        """Unlink a file that has one name."""
        parent, _, name = path.strip("/").rpartition("/")
        inode = self._find(os.fsencode(path))
        self.hooks.unlinked(self._find(os.fsencode(parent)), os.fsencode(name), inode, 0)

    def unmount(self) -> None:
        """Say that the tree is gone to all watches."""
        self.hooks.unmounted(_all_below(self.root))

    def client_came(self, uid: int) -> None:
        """Let everybody come: here are descriptors enough."""

    def client_went(self, uid: int) -> None:
        """Nothing was taken."""

    @contextlib.contextmanager
    def resolved(
        self, path: bytes, who: Credentials, *, follow: bool | None, directory: bool
    ) -> Iterator[Inode]:
        if not path:
            raise OSError(errno.ENOENT, "the path is empty")
        if b"\0" in path:
            raise OSError(errno.EINVAL, "the path has a NUL")
        inode = self._find(path)
        if follow and inode.target is not None:
            inode = self._find(inode.target)
        if directory and not inode.is_dir:
            raise OSError(errno.ENOTDIR, f"{path!r} is no directory")
        if not inode.readable and who.uid != 0:
            raise OSError(errno.EACCES, f"{path!r} is not for user {who.uid}")
        inode.pin()
        try:
            yield inode
        finally:
            inode.unpin()

    def passed(
        self, descriptor: int, who: Credentials, *, directory: bool
    ) -> contextlib.AbstractContextManager[Inode]:
        raise OSError(errno.EXDEV, "no descriptor is of a tree in memory")

    def heard(self) -> Heard:
        return Heard(OFF, OFF)

    async def notify(self, path: bytes, what: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "a tree in memory has no other side")

    async def fence(self) -> None:
        if self.on_fence is not None:
            self.on_fence()

    def _find(self, path: bytes) -> MemoryInode:
        inode: Inode = self.root
        for name in path.split(b"/"):
            if name:
                if not inode.is_dir:
                    raise OSError(errno.ENOTDIR, f"{path!r} leads through a file")
                dentry = (inode.children or {}).get(name)
                if dentry is None:
                    raise OSError(errno.ENOENT, f"{path!r} is not there")
                inode = dentry.inode
        assert isinstance(inode, MemoryInode)
        return inode


def _all_below(inode: Inode) -> Iterator[Inode]:
    yield inode
    for dentry in (inode.children or {}).values():
        yield from _all_below(dentry.inode)
