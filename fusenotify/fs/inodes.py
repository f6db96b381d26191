# SPDX-License-Identifier: GPL-2.0-or-later
"""The inodes that the kernel or a watch knows, each held by a descriptor.

fs.operations looks names up here and hands FORGETs on.  Nothing is remembered
by path: an O_PATH descriptor reaches the object wherever it is renamed to, and
keeps its number from being given to another.  fs.descriptors closes some where
there are too many.

Invariants
    One Inode per (st_dev, st_ino), however many names it has; per inode of the
        kernel where the pair does not say which object it is (fs.identity).
        Where the pair was given to a new object while the old one's descriptor
        was closed, the old one stays by its number alone, until it is forgotten.
    An inode is known while the kernel has lookups of it, a watch or a request
        in progress pins it, or one of its children is known; then its
        descriptor is closed (fs.unused).
    No object is known by more names than it has links.
"""

from __future__ import annotations

import errno
import os
import stat

from fusenotify.engine import core
from fusenotify.fs.descriptors import Descriptors, Held
from fusenotify.fs.file_handles import HOLD
from fusenotify.fs.identity import Identity
from fusenotify.fs.index import ROOT_NUMBER, Index
from fusenotify.fs.layers import Layers
from fusenotify.fs.submounts import Place, Submounts
from fusenotify.fs.unused import Unused


class Inode(Held):
    """An object of SOURCE.

    number is the inode number that programs see and the kernel's name for it;
    lookups are the kernel's references (the lookup count), pins those of
    watches and of requests in progress.
    """

    __slots__ = ("lookups", "number", "pins", "table")

    def __init__(self, table: Inodes, fd: int, status: os.stat_result, number: int) -> None:
        is_dir = stat.S_ISDIR(status.st_mode)
        # Nearly all are of one device, and have their own number: they share the integers.
        device = table.device if status.st_dev == table.device else status.st_dev
        ino = number if status.st_ino == number else status.st_ino
        super().__init__(table.descriptors, fd, device, ino, is_dir)
        self.table = table
        self.number = number
        self.lookups = 0
        self.pins = 0

    def pin(self) -> None:
        self.pins += 1

    def unpin(self) -> None:
        self.pins -= 1
        self.table.drop_if_unused(self)

    def childless(self) -> None:
        self.table.unused.add(self)

    def about_to_close(self) -> None:
        self.table.look_again(self)


class Inodes:
    """The table of known inodes.

    submounts say what is mounted below SOURCE; they belong to the table from now
    on.  descriptors are those of the inodes; what requests open is opened by them, too.
    device is SOURCE's st_dev.  by_number is for reading: the known ones.
    unused are those that lost what may have been the last to hold them.  layers are those of
    overlays.
    """

    def __init__(
        self, submounts: Submounts, names: core.Core, *, descriptor_limit: int | None = None
    ) -> None:
        self.submounts = submounts
        root_fd = submounts.root
        self.descriptors = Descriptors(submounts, descriptor_limit)
        self._names = names
        self.unused = Unused(self._let_go)
        status = os.fstat(root_fd)
        self.device = status.st_dev
        self._index: Index[Inode] = Index(self.device)
        self._identity: Identity[Inode] = Identity()
        self.layers = Layers(self._identity.overlays)
        self._identity.is_exact(self.device, root_fd)
        self.by_number = self._index.by_number
        self.root = self._add(root_fd, status, ROOT_NUMBER)
        self.root.pin()

    def __getitem__(self, number: int) -> Inode:
        return self.by_number[number]

    def __len__(self) -> int:
        return len(self.by_number)

    def all(self) -> list[Inode]:
        """Return the known inodes, in the order in which they became known."""
        return list(self.by_number.values())

    def lookup(self, parent: Inode, name: bytes) -> tuple[Inode, os.stat_result]:
        """Return the object of a name, and its attributes; it is known from now on.

        Who keeps it counts a lookup or pins it; who does not, drops it.

        Raises OSError as fstatat(2).
        """
        inode, status = self.find(parent, name)
        self.bears(parent, name, inode, status.st_nlink)
        return inode, status

    def find(self, parent: Inode, name: bytes) -> tuple[Inode, os.stat_result]:
        """Do as lookup(), without remembering that it is the object of that name."""
        if self.submounts.is_asked:
            shown = self.submounts.at(parent.device, parent.ino, name)
            if shown is not None:
                return self.take(os.dup(shown.fd))
        status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        inode = None
        if status.st_dev in self._identity.exact:
            inode = self._index.find(status.st_dev, status.st_ino)
        if inode is None or inode.held < 0:
            known = parent.children.get(name) if parent.children else None
            fd = self.descriptors.open(name, HOLD, dir_fd=parent.fd)
            return self.take(fd, known.inode if known else None)
        return inode, status

    def judged(self, parent: Inode, name: bytes) -> tuple[Inode, os.stat_result]:
        """Return the object of a name, and its attributes, where the kernel was told the same.

        So it is what the kernel has judged.  Where another one bears the name
        by now, the kernel looks again and judges that: ESTALE.

        Raises OSError as fstatat(2), and ESTALE.
        """
        inode, status = self.find(parent, name)
        known = parent.children and parent.children.get(name)
        if not known or known.inode is not inode:
            self.drop_if_unused(inode)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return inode, status

    def bears(self, parent: Inode, name: bytes, inode: Inode, names: int) -> None:
        """Remember that the kernel was told that a name is that of inode, which has so many."""
        self._names.instantiate(parent, name, inode)
        others = inode.others
        if others is not None and len(others) >= names:
            # One is out of date, presumably the one not used for longest: it has not so many.
            self._names.unhash(next(iter(others)))

    def take(self, fd: int, named: core.Inode | None = None) -> tuple[Inode, os.stat_result]:
        """Return the object of an O_PATH descriptor, which now belongs to the table.

        named is what the name was that it was opened by, as far as is known.
        """
        status = os.fstat(fd)
        if self._identity.is_exact(status.st_dev, fd):
            inode = self._found(fd, status)
        else:
            assert named is None or isinstance(named, Inode)
            inode = self._compared(fd, status, named)
        if inode is None:
            inode = self._add(fd, status, self._index.new_number(status.st_dev, status.st_ino))
        elif inode.held >= 0:
            os.close(fd)
            return inode, status
        self.descriptors.add(inode, fd)
        return inode, status

    def look_again(self, inode: Inode) -> None:
        """See what an object's st_dev and st_ino are now, while its descriptor is open."""
        if inode.device not in self._identity.exact:
            status = os.fstat(inode.held)
            self._index.moved(inode, status.st_dev, status.st_ino)

    def forget(self, number: int, lookups: int) -> None:
        """The kernel gives lookups back.  FUSE: FORGET."""
        self.give_back(number, lookups)
        if self.unused.waiting:
            self.unused.turn()

    def give_back(self, number: int, lookups: int) -> None:
        """Do as forget(), but for letting go, which the next unused.turn() does."""
        inode = self.by_number.get(number)
        if inode is not None:
            inode.lookups -= lookups
            if inode.lookups <= 0:
                self.unused.add(inode)

    def drop_if_unused(self, inode: Inode) -> None:
        """Let go of an inode that nobody holds, and of those above that it held."""
        if inode.lookups <= 0 and not inode.pins and not inode.children:
            self.unused.add(inode)
        if self.unused.waiting:
            self.unused.turn()

    def _let_go(self, inode: Inode) -> bool:
        """Let go of an inode that nobody holds, or of one of its names; return whether it has more.

        Its directory may be unused then, too: childless() says so.
        """
        if inode.lookups > 0 or inode.pins or inode.children:
            return False
        if self.by_number.get(inode.number) is not inode:
            return False
        dentry = inode.dentry
        if dentry is not None and not dentry.unlinked:
            self._names.unhash(dentry)
            if inode.dentry is not dentry:
                return True
        self._index.remove(inode)
        self._identity.remove(inode)
        if self.layers.up:
            self.layers.up.pop(inode, None)
        # A name and its inode hold each other: let memory come back at once.
        inode.dentry = None
        self.descriptors.remove(inode)
        return False

    def at(self, place: Place) -> Inode | None:
        """Return the directory that a place is in, if it is known."""
        return self._index.find(place.device, place.ino)

    def of_device(self, device: int) -> list[Inode]:
        """Return the known inodes of a filesystem."""
        return [inode for inode in self.by_number.values() if inode.device == device]

    def abandon(self, device: int) -> None:
        """Close the descriptors of a filesystem that is gone: its inodes are ESTALE from now on."""
        for inode in self.of_device(device):
            self._identity.remove(inode)
            self._index.superseded(inode)
            for dentry in list(inode.aliases()):
                if not dentry.unlinked:
                    self._names.unhash(dentry)
            self.descriptors.give_up(inode)
            self.unused.add(inode)
        self._identity.forget(device)
        self.unused.turn()

    def close(self) -> None:
        """Close all descriptors; the table is of no use afterwards."""
        self.descriptors.close()
        self.submounts.close()
        os.close(self.root.held)
        self.by_number.clear()
        self._identity.close()

    def _found(self, fd: int, status: os.stat_result) -> Inode | None:
        """Return the known object that has fd's st_dev and st_ino, and is fd's."""
        inode = self._index.find(status.st_dev, status.st_ino)
        if inode is None or inode.held >= 0:
            return inode
        if self.descriptors.matches(inode, fd, status.st_mode):
            return inode
        self._index.superseded(inode)
        return None

    def _compared(self, fd: int, status: os.stat_result, named: Inode | None) -> Inode | None:
        """Return the known object that is fd's, whatever its st_dev and st_ino were before.

        named is what its name was before, as far as that is known.
        """
        has_one_name = status.st_nlink == 1 or stat.S_ISDIR(status.st_mode)
        if named is not None and has_one_name and self._has_become(named, status):
            inode: Inode | None = named
        else:
            inode = self._identity.find(fd)
        if inode is None:
            # Or else the kernel did not say it.  Then each of several names is its own object.
            likely = named
            if likely is None and has_one_name:
                likely = self._index.find(status.st_dev, status.st_ino)
            if likely is not None and not self._identity.has(likely):
                inode = likely if self._has_become(likely, status) else None
        if inode is not None and (inode.device, inode.ino) != (status.st_dev, status.st_ino):
            self._index.moved(inode, status.st_dev, status.st_ino)
        return inode

    def _has_become(self, inode: Inode, status: os.stat_result) -> bool:
        """Return whether an object has the st_dev and st_ino of status now."""
        pair = status.st_dev, status.st_ino
        if inode.is_dir != stat.S_ISDIR(status.st_mode):
            return False
        if (inode.device, inode.ino) == pair:
            return True
        if inode.held < 0:
            return False
        now = os.fstat(inode.held)
        return (now.st_dev, now.st_ino) == pair

    def _add(self, fd: int, status: os.stat_result, number: int) -> Inode:
        inode = Inode(self, fd, status, number)
        self._index.add(inode)
        if status.st_dev not in self._identity.exact:
            self._identity.add(inode, fd)
        return inode
