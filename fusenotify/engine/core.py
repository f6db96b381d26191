# SPDX-License-Identifier: GPL-2.0-or-later
"""The core: inodes and names, and the events that happen to them.  Seed: fs/inotify.c.

Producers (engine.hooks, on behalf of a filesystem) report here what happened to
an inode or a name.  The event is passed to the watches that asked for it
(engine.watches), and to the tree watches above a directory (engine.trees).

Invariants
    A name is in its directory's table and among its inode's aliases.  An
        unlinked name is in neither, except that an inode's last name stays an
        alias.
    A directory has one name, and names never lead in a circle, even if they
        were changed behind the filesystem: every way up has an end.
    Each name of an inode costs the same, however many there are: no name is
        searched for among the others.
    Nothing awaits: the events of a change are all queued before another task
        runs.  This replaces the seed's mutexes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import count
from typing import Protocol
from weakref import WeakSet

from fusenotify.bits import (
    IN_ACCESS,
    IN_ALL_EVENTS,
    IN_CLOSE_NOWRITE,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_ONESHOT,
    IN_OPEN,
    IN_UNMOUNT,
)
from fusenotify.credentials import Actor
from fusenotify.engine.details import Details
from fusenotify.engine.inodes import DEAD, Dentry, Inode
from fusenotify.engine.policy import Policy
from fusenotify.engine.trees import Trees
from fusenotify.engine.watches import Handle, Operations, tell

__all__ = ["Core", "Dentry", "Inode"]

# The bits that a producer may queue.  IN_IGNORED and IN_ONESHOT would free a live watch.
_PRODUCIBLE = ~(IN_IGNORED | IN_ONESHOT)
# The events of files and directories that are opened only for reading.
_OF_READERS = IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE


class Queue(Protocol):
    """A consumer that tells its reader when events are missing."""

    def lose(self) -> None:
        """Note that an unknown number of events was lost before they came here."""


class Core:
    """The producers' side, and the maker of handles.  One per filesystem.

    actor is who causes the event that is queued now, or None if that is
    unknown; a producer sets it before it queues, and consumers may read it.
    trees has the tree watches, details the details of the event that is queued
    now.  asks_for_processes counts the consumers that need to know to which
    process a thread belongs, and asks_for_readers those of them that also need
    to know it of a thread that opens something only for reading.  replaces and
    exchanges say of the rename whose events are queued now that something else
    had the new name, and that this gets the old name.  queues are told of losses.
    """

    def __init__(self) -> None:
        self.actor: Actor | None = None
        self.replaces = self.exchanges = False
        self.trees = Trees()
        self._tree_roots = self.trees.roots
        self._trees_above = self.trees.known
        self._queue_above = self.trees.queue_event
        self.queues: WeakSet[Queue] = WeakSet()
        self.details = Details()
        self.asks_for_processes = self.asks_for_readers = 0
        self._ask_for_details = 0
        self._cookies = count(1)

    def init(self, operations: Operations, policy: Policy) -> Handle:
        """Return a new handle whose owner is called through operations.

        Seed: inotify_init().
        """
        return Handle(operations, policy, self.trees)

    def next_cookie(self) -> int:
        """Return a cookie for the two halves of a rename, 32 bits, never 0.

        Seed: inotify_get_cookie().
        """
        return next(self._cookies) & 0xFFFFFFFF or self.next_cookie()

    def ask_for_details(self, devices: int) -> None:
        """Add to the number of devices that want details; events are numbered while it is not 0."""
        before = self._ask_for_details
        self._ask_for_details += devices
        if not before:  # queue_event() is replaced, so that without such devices nothing is checked
            self.queue_event = self._queue_numbered  # type: ignore[method-assign]
        elif not self._ask_for_details:
            del self.queue_event

    def ask_for_processes(self, consumers: int, mask: int = IN_ALL_EVENTS) -> None:
        """Add to the number of consumers that need to know the processes of the events in mask."""
        self.asks_for_processes += consumers
        if mask & _OF_READERS:
            self.asks_for_readers += consumers

    def queue_event(
        self,
        inode: Inode,
        mask: int,
        cookie: int = 0,
        name: bytes | None = None,
        unlinked: bool = False,
        trees: Container[Inode] | None = None,
    ) -> None:
        """Pass an event to the watches on inode that asked for it, and to tree watches above it.

        If the event is about an entry of the directory inode, name is the
        entry's name.  unlinked says that the event came through a name that is
        gone; watches with IN_EXCL_UNLINK do not get it.  trees are the
        directories whose tree watches get the event; None stands for all above.
        Seed: inotify_inode_queue_event().
        """
        watches = inode.watches
        if watches:
            mask &= _PRODUCIBLE
            asked = mask & IN_ALL_EVENTS
            for watch in watches:
                wanted = watch.mask
                if not wanted & asked or not watch.attached:
                    continue
                if unlinked and wanted & IN_EXCL_UNLINK:
                    continue
                unwanted = watch.unwanted
                if unwanted is not None and unwanted.has(mask, name, self.actor):
                    continue
                if not wanted & IN_ONESHOT:
                    watch.handle.operations.handle_event(watch, watch.wd, mask, cookie, name)
                else:
                    tell(watch, mask, cookie, name)
        if self._tree_roots and inode.is_dir:
            above = self._trees_above.get(inode)
            if above is None:
                above = self.trees.above(inode)
            if above:
                mask &= _PRODUCIBLE
                self._queue_above(above, inode, mask, cookie, name, unlinked, trees, self.actor)

    def _queue_numbered(
        self,
        inode: Inode,
        mask: int,
        cookie: int = 0,
        name: bytes | None = None,
        unlinked: bool = False,
        trees: Container[Inode] | None = None,
    ) -> None:
        """Do what queue_event() does, and number the event first, for devices that want details."""
        if inode.watches or (self._tree_roots and inode.is_dir):
            self.details.number(cookie)
        Core.queue_event(self, inode, mask, cookie, name, unlinked, trees)

    def queue_parent_event(
        self, dentry: Dentry, mask: int, cookie: int = 0, unlinked: bool = False
    ) -> None:
        """Pass an event of a name to the watches on its directory.

        Seed: inotify_dentry_parent_queue_event().  The seed has a flag in each
        child, which saves a look at the parent; here that is one attribute.
        """
        if dentry.parent.watches or self._tree_roots:
            self.queue_event(dentry.parent, mask, cookie, dentry.name, unlinked)

    def hears(self, directory: Inode) -> bool:
        """Return whether a watch may get the events of a directory's entries."""
        return bool(directory.watches or (self._tree_roots and self.trees.above(directory)))

    def instantiate(self, parent: Inode, name: bytes, inode: Inode) -> Dentry:
        """Record that name in parent is inode, and return its dentry.

        If the tree was changed behind the filesystem, a known dentry of another
        inode is unhashed, and a directory that is known under another name is
        moved.  A name that would make a directory its own parent, as a bind mount
        of it can, is not stored.  Seed: inotify_d_instantiate().
        """
        children = parent.children
        if children is None:
            children = parent.children = {}
        dentry = children.get(name)
        if dentry is not None:
            if dentry.inode is inode:
                if inode.dentry is not dentry:
                    inode.use_alias(dentry)
                return dentry
            self.unhash(dentry)
        known = inode.dentry
        if inode.children and not self._keep_tree(inode, parent):
            return Dentry(parent, name, inode)
        if known is not None and inode.is_dir and not known.unlinked:
            self.move(known, parent, name)  # Linux: d_splice_alias()
            return known
        dentry = children[name] = Dentry(parent, name, inode)
        if known is not None and inode.is_dir:
            self.trees.moved()
        inode.use_alias(dentry)
        return dentry

    def move(self, dentry: Dentry, parent: Inode, name: bytes) -> None:
        """Record that a dentry was renamed; a dentry that had the new name is unhashed.

        Seed: inotify_d_move().
        """
        if dentry.inode.children:
            self._keep_tree(dentry.inode, parent)
        if parent.children is None:
            parent.children = {}
        elif replaced := parent.children.get(name):
            self.unhash(replaced)
        _take_out(dentry)
        parent.children[name] = dentry
        dentry.parent, dentry.name = parent, name
        if dentry.inode.is_dir:
            self.trees.moved()

    def _keep_tree(self, directory: Inode, parent: Inode) -> bool:
        """Make sure that names form no circle when directory gets a name in parent.

        If parent is known as lying below directory, that is out of date, and the
        name through which it lies there is unhashed.  Returns whether directory
        can have the new name.
        """
        below, above = None, parent
        while above is not directory:
            below = above.dentry
            if below is None or below.unlinked:
                return True
            above = below.parent
        if below is None or directory.dentry is None:
            return False
        self.unhash(below)
        self.trees.moved()
        return True

    def exchange(self, one: Dentry, other: Dentry) -> None:
        """Record that two dentries swapped their places (RENAME_EXCHANGE)."""
        for moved, parent in ((one.inode, other.parent), (other.inode, one.parent)):
            if moved.children:
                self._keep_tree(moved, parent)
        _children(one.parent)[one.name] = other
        _children(other.parent)[other.name] = one
        one.parent, other.parent = other.parent, one.parent
        one.name, other.name = other.name, one.name
        if one.inode.is_dir or other.inode.is_dir:
            self.trees.moved()

    def unhash(self, dentry: Dentry) -> None:
        """Record that a name is gone.  Linux: d_drop()."""
        _take_out(dentry)
        dentry.unlinked = True
        dentry.inode.drop_alias(dentry)

    def inode_is_dead(self, inode: Inode) -> None:
        """Remove all watches on a deleted inode, which will have no more events.

        Seed: inotify_inode_is_dead().
        """
        inode.unlinked = DEAD
        for watch in inode.watches:
            if watch.attached:
                watch.handle.remove_watch(watch)

    def lose(self) -> None:
        """Tell all queues that events were lost, about any objects."""
        for queue in list(self.queues):
            queue.lose()

    def unmount(self, inodes: Iterable[Inode]) -> None:
        """Send IN_UNMOUNT, then IN_IGNORED, to every watch on the inodes.

        Seed: inotify_unmount_inodes().
        """
        for inode in inodes:
            for watch in inode.watches:
                if not watch.attached:
                    continue
                handle = watch.handle
                tells = inode.is_dir and handle.policy.unmount_tells_isdir
                mask = IN_UNMOUNT | IN_ISDIR if tells else IN_UNMOUNT
                handle.operations.handle_event(watch, watch.wd, mask, 0, None)
                handle.remove_watch(watch)


def _children(directory: Inode) -> dict[bytes, Dentry]:
    """Return the table of names of a directory that has one."""
    assert directory.children is not None
    return directory.children


def _take_out(dentry: Dentry) -> None:
    """Remove a name from its directory's table."""
    directory = dentry.parent
    children = _children(directory)
    del children[dentry.name]
    if not children:
        directory.childless()
