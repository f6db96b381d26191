# SPDX-License-Identifier: GPL-2.0-or-later
"""The inodes that the kernel or a watch knows, each held by a descriptor.

fs.operations looks names up here and passes FORGETs on.  Nothing is remembered
by path: an O_PATH descriptor reaches the object wherever it is renamed to, and
prevents its number from being given to another object.  fs.descriptors closes
some descriptors when there are too many.

Invariants
    There is one Inode per (st_dev, st_ino), however many names it has; if the
        pair does not identify an object, one per inode of the kernel
        (fs.identity).  If the pair was given to a new object while the old
        one's descriptor was closed, the old one is found only by its number,
        until it is forgotten.
    An inode is known while the kernel has lookups of it, a watch or a request
        in progress pins it, or one of its children is known.  After that, its
        descriptor is closed (fs.unused).
    No object is known by more names than it has links.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from fusenotify.engine import core
from fusenotify.fs.descriptors import Descriptors, Held
from fusenotify.fs.file_handles import HOLD
from fusenotify.fs.identity import Identity
from fusenotify.fs.index import ROOT_NUMBER, Index
from fusenotify.fs.layers import Layers
from fusenotify.fs.submounts import Place, Submounts
from fusenotify.fs.unused import Unused

# How often a name is looked up again because others changed names meanwhile.
_TRIES = 16


class Inode(Held):
    """An object of SOURCE.

    number is the inode number that programs see, and the kernel's name for it.
    lookups counts the kernel's references (the lookup count), pins those of
    watches and of requests in progress.
    """

    __slots__ = ("lookups", "number", "pins", "table")

    def __init__(self, table: Inodes, fd: int, status: os.stat_result, number: int) -> None:
        is_dir = stat.S_ISDIR(status.st_mode)
        # Nearly all have the same device, and their own number: sharing the integers saves memory.
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

    @property
    def is_known(self) -> bool:
        """Whether the inode is still in its table; otherwise its descriptor is closed."""
        return self.table.by_number.get(self.number) is self

    def watched(self) -> None:
        if self.table.on_watched is not None:
            self.table.on_watched(self)

    def childless(self) -> None:
        self.table.unused.add(self)

    def about_to_close(self) -> None:
        self.table.look_again(self)


class Inodes:
    """The table of known inodes.

    submounts has the mounts below SOURCE; it belongs to the table from now on.
    descriptors has the descriptors of the inodes, and requests open files with it, too.
    device is SOURCE's st_dev.  by_number has the known inodes, and is for reading only.
    unused has the inodes that have lost a holder, perhaps the last one.  layers has the
    objects of overlays.
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
        # Called with an object whose watches changed; with one that is about to be forgotten.
        self.on_watched: Callable[[Inode], None] | None = None
        self.on_let_go: Callable[[Inode], None] | None = None
        # Called before a directory becomes known by a first name, or by another one; returns
        # whether others' changes were told.
        self.before_naming: Callable[[Inode, bytes, Inode], bool] | None = None
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

        A caller that keeps it has to count a lookup or pin it, and others have to call
        drop_if_unused().

        Raises OSError as fstatat(2).
        """
        inode, status = self.find(parent, name)
        for _ in range(_TRIES):
            if not self._tells_others(parent, name, inode):
                break
            self.drop_if_unused(inode)  # the name may belong to another object now
            inode, status = self.find(parent, name)
        self._bears(parent, name, inode, status.st_nlink)
        return inode, status

    def find(self, parent: Inode, name: bytes) -> tuple[Inode, os.stat_result]:
        """Do what lookup() does, without remembering that the object has that name."""
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
        """Return the object of a name, and its attributes, if it is the one that the kernel knows.

        Then it is the object whose permissions the kernel has checked.  If another
        object has the name now, the error is ESTALE, with which the kernel looks
        again and checks that object.

        Raises OSError as fstatat(2), and ESTALE.
        """
        inode, status = self.find(parent, name)
        known = parent.children and parent.children.get(name)
        if not known or known.inode is not inode:
            self.drop_if_unused(inode)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return inode, status

    def bears(self, parent: Inode, name: bytes, inode: Inode, names: int) -> None:
        """Remember that the kernel knows a name as one of inode, which has so many names in all."""
        for _ in range(_TRIES):
            if not self._tells_others(parent, name, inode):
                break
            with suppress(OSError):  # the name may belong to another object now, or to none
                now, _ = self.find(parent, name)
                if now is inode:
                    continue
                self.drop_if_unused(now)
            return
        self._bears(parent, name, inode, names)

    def _tells_others(self, parent: Inode, name: bytes, inode: Inode) -> bool:
        """Return whether others' changes were told before a directory is known by a new name."""
        if self.before_naming is None or not inode.is_dir:
            return False
        known = parent.children.get(name) if parent.children else None
        if known is not None and known.inode is inode:
            return False
        return self.before_naming(parent, name, inode)

    def _bears(self, parent: Inode, name: bytes, inode: Inode, names: int) -> None:
        self._names.instantiate(parent, name, inode)
        others = inode.others
        if others is not None and len(others) >= names:
            # There are too many, so one is out of date, probably the one not used for longest.
            self._names.unhash(next(iter(others)))

    def take(self, fd: int, named: core.Inode | None = None) -> tuple[Inode, os.stat_result]:
        """Return the object of an O_PATH descriptor, and its attributes.

        The descriptor belongs to the table from now on.  named is the object that was
        known by the name with which the descriptor was opened, if any.
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
        """Update the st_dev and st_ino of an object, whose descriptor must be open."""
        if inode.device not in self._identity.exact:
            status = os.fstat(inode.held)
            self._index.moved(inode, status.st_dev, status.st_ino)

    def forget(self, number: int, lookups: int) -> None:
        """Subtract lookups that the kernel gives back.  FUSE: FORGET."""
        self.give_back(number, lookups)
        if self.unused.waiting:
            self.unused.turn()

    def give_back(self, number: int, lookups: int) -> None:
        """Do what forget() does, but leave the removal of unused inodes to unused.turn()."""
        inode = self.by_number.get(number)
        if inode is not None:
            inode.lookups -= lookups
            if inode.lookups <= 0:
                self.unused.add(inode)

    def drop_if_unused(self, inode: Inode) -> None:
        """Remove an inode if nobody holds it, and the inodes above that only it held."""
        if inode.lookups <= 0 and not inode.pins and not inode.children:
            self.unused.add(inode)
        if self.unused.waiting:
            self.unused.turn()

    def _let_go(self, inode: Inode) -> bool:
        """Remove an inode that nobody holds, or one of its names; return True if there are more.

        If its directory is unused then, too, childless() is called for that.
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
        if self.on_let_go is not None:
            self.on_let_go(inode)
        self._index.remove(inode)
        self._identity.remove(inode)
        if self.layers.up:
            self.layers.up.pop(inode, None)
        # A name and its inode refer to each other: without this, their memory would stay in use.
        inode.dentry = None
        self.descriptors.remove(inode)
        return False

    def with_number(self, device: int, ino: int) -> Inode | None:
        """Return the known object with an st_dev and st_ino; None if there is none."""
        return self._index.find(device, ino)

    def at(self, place: Place) -> Inode | None:
        """Return the directory of a place, if it is known."""
        return self._index.find(place.device, place.ino)

    def of_device(self, device: int) -> list[Inode]:
        """Return the known inodes of a filesystem."""
        return [inode for inode in self.by_number.values() if inode.device == device]

    def abandon(self, device: int) -> None:
        """Close all descriptors of a filesystem that is gone; its inodes give ESTALE then."""
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
        """Close all descriptors.  The table cannot be used after that."""
        self.descriptors.close()
        self.submounts.close()
        os.close(self.root.held)
        self.by_number.clear()
        self._identity.close()

    def _found(self, fd: int, status: os.stat_result) -> Inode | None:
        """Return the known object that has fd's st_dev and st_ino, if fd is a descriptor of it."""
        inode = self._index.find(status.st_dev, status.st_ino)
        if inode is None or inode.held >= 0:
            return inode
        if self.descriptors.matches(inode, fd, status.st_mode):
            return inode
        self._index.superseded(inode)
        return None

    def _compared(self, fd: int, status: os.stat_result, named: Inode | None) -> Inode | None:
        """Return the known object of fd, even if its st_dev and st_ino have changed.

        named is the object that was known by its name, if any.
        """
        has_one_name = status.st_nlink == 1 or stat.S_ISDIR(status.st_mode)
        if named is not None and has_one_name and self._has_become(named, status):
            inode: Inode | None = named
        else:
            inode = self._identity.find(fd)
        if inode is None:
            # If the kernel could not tell, each of several names counts as an object of its own.
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
