# SPDX-License-Identifier: GPL-2.0-or-later
"""The marks of fanotify: on whole filesystems, or on the objects that devices watch.

behind.listening has one Marks.  fs.inodes reports which objects are watched, named and forgotten.

Invariants
    A mark always asks for changes; it asks for reads, opens and closes only while a watch wants
        them.
    A watched object has a mark.  So has the directory that it is in, whose records tell when
        the object is moved or removed.
    Only root can mark filesystems and open handles, and not in a user namespace.  For others,
        tree watches hear of the directories that are known: each has a mark.
    If the kernel refuses a mark, status says so.  The watch is added all the same.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from contextlib import suppress

from fusenotify.engine import core
from fusenotify.fs.behind.fanotify import (
    CHANGES,
    FAN_ATTRIB,
    FAN_DELETE,
    FAN_EVENT_ON_CHILD,
    FAN_MODIFY,
    FAN_ONDIR,
    FAN_RENAME,
    ON_DEMAND,
    Fanotify,
    why_not_heard,
)
from fusenotify.fs.inodes import Inode, Inodes

log = logging.getLogger(__name__)

_DIRECTORY = CHANGES | FAN_EVENT_ON_CHILD | FAN_ONDIR
_FILE = FAN_MODIFY | FAN_ATTRIB
_ABOVE = FAN_DELETE | FAN_RENAME | FAN_ONDIR
_FILESYSTEM = CHANGES | FAN_ONDIR
_ONLY_ROOT = "only root hears of a whole filesystem"
_NO_HANDLES = "root may not open file handles here, as in a user namespace"
# A bit besides those that a watch asks for: there is a watch.
_WATCHED = 1 << 32
# IN_ACCESS and the like have the same values as FAN_ACCESS and the like.
_BITS = [1 << bit for bit in range(6) if ON_DEMAND >> bit & 1]


class Marks:
    """The marks of a mount.

    If is_all is true, filesystems are always marked.  Otherwise they are marked only for root,
    while there is a tree watch.  number counts the marks of single objects.
    """

    def __init__(self, is_all: bool, fanotify: Fanotify, inodes: Inodes, names: core.Core) -> None:
        self._is_all = is_all
        self.is_root = inodes.descriptors.handles.opens
        self._fanotify = fanotify
        self._inodes = inodes
        self._tree_roots = names.trees.roots
        self._filesystems: dict[int, int] = {}
        # The mask of the filesystems' marks; 0 if they have none.
        self._asked = 0
        self._wanted: dict[Inode, int] = {}
        self._demand: Counter[int] = Counter()
        self._marked: dict[Inode, int] = {}
        # How many watched objects are in each directory, and the directory of each object.
        self._watched_in: Counter[Inode] = Counter()
        self._above: dict[Inode, Inode] = {}
        self._marks_each = False
        # What the kernel refused to mark: objects, and filesystems by their st_dev.
        self._refused: set[Inode | int] = set()
        self._why_refused = ""

    @property
    def number(self) -> int:
        return len(self._marked)

    @property
    def refused(self) -> str:
        """What is not heard because the kernel refused a mark, as a text for messages; or ""."""
        if not self._refused:
            return ""
        return f"refused marks: {len(self._refused)}; {self._why_refused}"

    @property
    def watches(self) -> bool:
        """Whether any object is watched."""
        return bool(self._wanted)

    @property
    def marks_each(self) -> bool:
        """Whether each known directory has a mark of its own, for the tree watches."""
        return self._marks_each

    def filesystem(self, device: int, fd: int) -> None:
        """Add a filesystem of SOURCE; fd is a directory in it.

        Raises OSError: EPERM (only root may), ENOSPC, and as fanotify_mark(2).
        """
        if self._is_all and not self.is_root:
            raise PermissionError(errno.EPERM, _ONLY_ROOT if os.geteuid() else _NO_HANDLES)
        wants = _FILESYSTEM if self._is_all and not self._asked else self._asked
        if wants:
            self._fanotify.mark_filesystem(fd, wants)
        self._asked = wants
        self._filesystems[device] = fd

    def forget_filesystem(self, device: int) -> None:
        """Remove a filesystem that does not belong to SOURCE any more."""
        self._refused.discard(device)
        fd = self._filesystems.pop(device, None)
        if fd is not None and self._asked:
            with suppress(OSError):  # the filesystem is gone
                self._fanotify.mark_filesystem(fd, self._asked, on=False)

    def watched(self, inode: core.Inode) -> None:
        """Note that an object has other watches than before, or that their masks changed."""
        assert isinstance(inode, Inode)
        wants = 0
        for watch in inode.watches:
            if watch.counts:
                wants |= watch.mask | _WATCHED
        before = self._wanted.pop(inode, 0)
        if wants:
            self._wanted[inode] = wants
        for bit in _BITS:
            self._demand[bit] += bool(wants & bit) - bool(before & bit)
        demand = sum(bit for bit in _BITS if self._demand[bit])
        hears = self._is_all or (self.is_root and bool(self._tree_roots))
        self._ask(_FILESYSTEM | demand if hears else 0)
        each = bool(self._tree_roots) and not hears
        if each != self._marks_each:
            self._marks_each = each
            for known in self._inodes.all():
                if known.is_dir:
                    self._mark(known)
        if not self._is_all:
            self._follow(inode, bool(wants))
            self._mark(inode)

    def moved(self, inode: core.Inode) -> None:
        """Note that an object may be in another directory."""
        if inode in self._above:
            assert isinstance(inode, Inode)
            self._follow(inode, True)

    def named(self, inode: Inode) -> None:
        """Note that a directory is known."""
        if self._marks_each:
            self._mark(inode)

    def let_go(self, inode: Inode) -> None:
        """Note that an object is no longer known; its descriptor is still open."""
        if inode in self._marked:
            self._set(inode, 0)
        self._refused.discard(inode)

    def _follow(self, inode: Inode, is_watched: bool) -> None:
        """Mark the directory that an object is in, as long as the object is watched."""
        above = inode.dentry.parent if is_watched and inode.dentry is not None else None
        before = self._above.pop(inode, None)
        if isinstance(above, Inode):
            self._above[inode] = above
            self._watched_in[above] += 1
            self._mark(above)
        if before is not None:
            self._watched_in[before] -= 1
            if not self._watched_in[before]:
                del self._watched_in[before]
            self._mark(before)

    def _mark(self, inode: Inode) -> None:
        """Set the mark of an object."""
        wants = self._wanted.get(inode, 0)
        mask = 0
        if wants or (self._marks_each and inode.is_dir):
            mask = (_DIRECTORY if inode.is_dir else _FILE) | wants & ON_DEMAND
            if self._marks_each:
                mask |= sum(bit for bit in _BITS if self._demand[bit])
        if self._watched_in.get(inode):
            mask |= _ABOVE
        self._set(inode, mask)

    def _set(self, inode: Inode, mask: int) -> None:
        before = self._marked.get(inode, 0)
        if mask == before or not (before or inode.is_known):
            self._refused.discard(inode)
            return
        if before & ~mask:
            with suppress(OSError):  # the object is gone, and its mark with it
                self._fanotify.mark(inode.fd, before & ~mask, on=False)
        try:
            if inode.device not in self._fanotify.fsids:
                self._fanotify.know(inode.fd)
            if mask & ~before:
                self._fanotify.mark(inode.fd, mask & ~before)
        except OSError as error:
            self._refuse(inode, error)
            return
        self._refused.discard(inode)
        if mask:
            self._marked[inode] = mask
        else:
            self._marked.pop(inode, None)

    def _ask(self, mask: int) -> None:
        """Set the mask of the filesystems' marks."""
        more, less = mask & ~self._asked, self._asked & ~mask
        for device, fd in self._filesystems.items() if more or less else ():
            try:
                if more:
                    self._fanotify.mark_filesystem(fd, more)
                if less:
                    self._fanotify.mark_filesystem(fd, less, on=False)
            except OSError as error:
                self._refuse(device, error)
            else:
                self._refused.discard(device)
        self._asked = mask

    def _refuse(self, what: Inode | int, error: OSError) -> None:
        """Note that the kernel refused a mark.  The first time, the log says so."""
        if not self._why_refused:
            log.warning(
                "not all that is watched is heard behind the mount: %s", why_not_heard(error)
            )
        self._why_refused = why_not_heard(error)
        self._refused.add(what)
