# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the place of a directory that is not known, by its file handle.

behind.retelling uses it.  A record of fanotify names the directory by its handle.  If a tree watch
may stand above a directory that no request was ever about, the way up to a known directory is
searched: in later records, which tell where it was before a move or removal, or on the disk.

Invariant
    Of the directories that are found this way, the MOST last used are kept.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from fusenotify.engine import core
from fusenotify.fs.behind.by_handle import ByHandle
from fusenotify.fs.behind.fanotify import Fanotify, await_records
from fusenotify.fs.behind.pending import Pending
from fusenotify.fs.file_handles import HOLD
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.syscalls import path_now
from fusenotify.mountinfo import contains

MOST = 16_384
# How many directories that nobody hears of are remembered.
_MOST_UNHEARD = 10_000
# How long a way up may be, and how often the search is repeated because of moves meanwhile.
_LONGEST_WAY = 4096
_TRIES = 8
# How long after a directory's removal the record about it may come: meanwhile the call may wait for
# the disk.
_REMOVED_SECONDS = 1.0


class Unexplained(Exception):
    """A record cannot be told without another one that is still to come.

    The kernel makes a change first, and queues its record then.  So a directory may be gone
    (handle), while its removal was not read yet.  Or the last record is about a link count, and
    the one about the name follows.  seconds is how long to wait for it.
    """

    def __init__(self, seconds: float, handle: bytes = b"") -> None:
        super().__init__(seconds, handle)
        self.seconds = seconds
        self.handle = handle


class Whereabouts(ByHandle):
    """Finds objects by handle, and the places of directories.

    more reads further records into Pending, and returns whether there were any; behind.listening
    sets it.
    """

    def __init__(
        self, inodes: Inodes, names: core.Core, fanotify: Fanotify, pending: Pending
    ) -> None:
        super().__init__(inodes, fanotify)
        self._core = names
        self._pending = pending
        self.more: Callable[[], bool] = bool
        self._found: OrderedDict[Inode, None] = OrderedDict()
        # Stand-ins for directories that are gone, until their removals are told.
        self._gone: dict[bytes, core.Inode] = {}
        self._unheard: set[bytes] = set()
        self._changes = 0

    def place(self, inode: Inode) -> None:
        """Make the names on the path to an object known, if they are not."""
        root, dentry = self._inodes.root, inode.dentry
        if inode is root or (dentry is not None and not dentry.unlinked):
            return
        with suppress(OSError):
            top, path = path_now(root.fd), path_now(inode.fd)
            above = root
            for name in path[len(top) :].strip(b"/").split(b"/") if contains(top, path) else ():
                above, _ = self._inodes.lookup(above, name)

    def await_changes(self, directory: core.Inode | None) -> None:
        """Wait until the records of all changes of a directory's names that show are queued."""
        if isinstance(directory, Inode):
            with suppress(OSError):
                await_records(directory.fd)

    def directory(self, handle: bytes | None, *, itself: bool = False) -> core.Inode | None:
        """Return the directory of a record if its place is known, or a watch hears of it.

        Otherwise return None.  itself says that the record is about the directory itself, of
        which watches of its parent hear, too.

        Raises Unexplained, OSError.
        """
        if handle is None:
            return None
        found = self._in_its_place(handle, itself)
        if found is None:  # its own watches hear of it wherever it is
            known = self.known(handle)
            found = known if known is not None and known.watches else None
        return found

    def _in_its_place(self, handle: bytes, itself: bool) -> core.Inode | None:
        """Return a directory whose place is known, or of which a tree watch hears, or None.

        Raises Unexplained, OSError.
        """
        found = self._placed(handle)
        trees = bool(self._core.trees.roots)
        if found is not None or not (trees or itself) or not self._anchors:
            return found
        if self._changes != self._core.trees.changes:
            self._changes = self._core.trees.changes
            self._unheard.clear()
        if handle in self._unheard:
            return None
        for _ in range(_TRIES):
            way = self._way_up(handle, _LONGEST_WAY if trees else 1)
            if way is None:
                break
            # Search again if a directory on the way has moved meanwhile: its record tells more.
            self.more()
            if any(is_there and self._pending.first_move(below) for below, _, is_there in way[1]):
                continue
            if not trees and not self._core.hears(way[0]):
                break
            return self._down(*way)
        self.is_unheard(handle)
        return None

    def is_unheard(self, handle: bytes) -> None:
        """Note that nobody hears of a directory, or that its place will never be known."""
        if len(self._unheard) >= _MOST_UNHEARD:
            self._unheard.clear()
        self._unheard.add(handle)

    def is_removed(self, handle: bytes | None) -> None:
        """Note that a directory of which nobody hears is gone: its place is not looked for."""
        if handle is not None and self.known(handle) is None:
            self._gone.setdefault(handle, core.Inode(is_dir=True))

    def directory_itself(self, handle: bytes) -> core.Inode:
        """Return a directory that is moved, or a stand-in if it is gone already."""
        found: core.Inode | None = self.known(handle) or self._gone.get(handle)
        if found is None:
            with suppress(OSError):
                found = self.opened(handle)
        if found is None:
            found = self._gone[handle] = core.Inode(is_dir=True)
        return found

    def removed(self, handle: bytes | None) -> core.Inode | None:
        """Forget and return the stand-in for a directory that is gone; None if there is none."""
        return None if handle is None else self._gone.pop(handle, None)

    def settled(self) -> None:
        """Note that no record waits: forget all stand-ins."""
        self._gone.clear()

    def moved(self) -> None:
        """Note that a directory was moved, perhaps to a place where somebody hears of it."""
        self._unheard.clear()

    def _placed(self, handle: bytes) -> core.Inode | None:
        """Return a directory whose place is known, or the stand-in for one; None if neither."""
        known = self.known(handle)
        if known is None:
            return self._gone.get(handle)
        return known if self._is_placed(known) else None

    def _is_placed(self, inode: core.Inode) -> bool:
        """Return whether the way up from a known object to the root is known."""
        for _ in range(_LONGEST_WAY):
            if inode.dentry is None:
                break
            inode = inode.dentry.parent
            if isinstance(inode, Inode) and not inode.is_known:
                return False
        return inode is self._inodes.root

    def _way_up(
        self, handle: bytes, most: int
    ) -> tuple[core.Inode, list[tuple[bytes, bytes, bool]]] | None:
        """Return a known directory above an unknown one, and the way up to it.

        Each step of the way has a handle, the name, and whether the directory has that name now.
        Returns None if the directory is not below SOURCE, or if the way is longer than most.

        Raises Unexplained, OSError.
        """
        way: list[tuple[bytes, bytes, bool]] = []
        while len(way) <= most:
            known = self._placed(handle)
            if known is not None:
                return known, way
            if handle in self._unheard:
                self._outside(way)
                return None
            move = self._pending.first_move(handle)
            if move is None:
                fd = self._open(handle)
                try:
                    above = None if fd < 0 else self._above(fd)
                finally:
                    if fd >= 0:
                        os.close(fd)
                if above is None:
                    self.more()
                    move = self._pending.first_move(handle, is_gone=True)
                    if move is None:
                        raise Unexplained(_REMOVED_SECONDS, handle)
                elif not above[0]:
                    self._outside(way)
                    return None
                else:
                    way.append((handle, above[0], True))
                    handle = above[1]
                    continue
            way.append((handle, move.name, False))
            handle = move.directory
        return None

    def _outside(self, way: list[tuple[bytes, bytes, bool]]) -> None:
        """Note that a way leads out of SOURCE, so that it is not gone again from each step."""
        for handle, _, _ in way:
            self.is_unheard(handle)

    def _above(self, fd: int) -> tuple[bytes, bytes] | None:
        """Return the name of an open directory, and the handle of its parent.

        Returns None if the directory was removed, and an empty name if it has no parent below
        SOURCE, or if its path is too long (path_now()).  Raises OSError.
        """
        status = os.fstat(fd)
        if not status.st_nlink:
            return None
        try:
            up = os.open(b"..", HOLD, dir_fd=fd)
        except FileNotFoundError:  # it is not below SOURCE
            return b"", b""
        try:
            above = os.fstat(up)
            if (above.st_dev, above.st_ino) == (status.st_dev, status.st_ino):
                place = self._inodes.submounts.place_of(status.st_dev, status.st_ino)
                parent = None if place is None else self._inodes.at(place)
                handle = None if parent is None else self.handle_of(parent)
                return (b"", b"") if place is None or handle is None else (place.name, handle)
            name = os.path.basename(path_now(fd))
            await_records(up)  # of a move that shows
            if not os.fstat(fd).st_nlink:  # removed meanwhile: the name has " (deleted)"
                return None
            return name, self._fanotify.key(up, above.st_dev)
        finally:
            os.close(up)

    def _down(self, known: core.Inode, way: list[tuple[bytes, bytes, bool]]) -> core.Inode | None:
        """Make the directories on a way known, from a known one down; return the last one."""
        for handle, name, is_there in reversed(way):
            below: core.Inode | None = self.opened(handle)
            if below is None:
                below = self._gone[handle] = core.Inode(is_dir=True)
            assert below is not None
            other = known.children.get(name) if known.children else None
            if is_there and isinstance(below, Inode) and isinstance(known, Inode):
                self._core.instantiate(known, name, below)
            elif other is None or other.inode is not below:
                # It was there before, and is not now: another object may have the name.
                dentry = core.Dentry(known, name, below)
                dentry.unlinked = True
                if below.dentry is None or below.dentry.unlinked:
                    below.dentry = dentry
            if isinstance(below, Inode):
                self.hold(below)
            known = below
        return known

    def hold(self, inode: Inode) -> None:
        """Keep a directory known for a while."""
        if inode in self._found:
            self._found.move_to_end(inode)
            return
        inode.pin()
        self._found[inode] = None
        if len(self._found) > MOST:
            oldest, _ = self._found.popitem(last=False)
            oldest.unpin()
