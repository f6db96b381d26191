# SPDX-License-Identifier: GPL-2.0-or-later
"""The core: inodes, names, watches and handles.  Seed: fs/inotify.c.

Producers (engine.hooks, on behalf of a filesystem) say what happened to an
inode or a name; consumers (engine.device, or any other) own handles, put
watches on inodes and are called back once per matching watch.

Lifetimes
    A handle lives from Core.init() to Handle.destroy(), and behind that as
        long as one of its watches is referenced.
    A watch is attached from add_watch() until it is removed; its owner holds
        the first reference and gives it back (put_watch) when an event arrives
        for a watch that is no longer attached: IN_IGNORED, or the only event
        of a one-shot.  Handle.destroy() gives it back itself.  With the last
        reference the owner's destroy_watch() is called.
    A watched inode stays pinned (Inode.pin, Inode.unpin) from add_watch() to
        the last put_watch().

Invariants
    A watch is in its handle's table and its inode's list, or in neither.
    A name is in its directory's table and its inode's aliases; one that is
        unlinked is in neither, but the last of all stays an alias.
    Nothing awaits: one change is queued whole before another task runs.  That
        takes the place of the seed's mutexes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Protocol

from fusenotify.credentials import Actor
from fusenotify.engine.policy import Policy
from fusenotify.errors import InvalidMask, NoSuchWatch, WatchExists
from fusenotify.masks import (
    IN_ALL_EVENTS,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONESHOT,
    IN_UNMOUNT,
)

# What a producer may queue.  IN_IGNORED and IN_ONESHOT would free a live watch.
_PRODUCIBLE = ~(IN_IGNORED | IN_ONESHOT)


class Inode:
    """An object of the filesystem, as far as notification goes.

    A filesystem subclasses it.  unlinked says that the last name is gone.
    aliases are the names by which it is known, the one used last at the end,
    or the last of all, unlinked: it is what a descriptor still goes by.
    children, of a directory, are its known names.
    """

    __slots__ = ("aliases", "children", "is_dir", "unlinked", "watches")

    def __init__(self, is_dir: bool) -> None:
        self.is_dir = is_dir
        self.unlinked = False
        # Most inodes have no watch and no children: share the empty tuple.
        self.watches: list[Watch] | tuple[()] = ()
        self.aliases: tuple[Dentry, ...] = ()
        self.children: dict[bytes, Dentry] | None = None

    @property
    def dentry(self) -> Dentry | None:
        """The name by which it was used last; None for the root and the unknown."""
        aliases = self.aliases
        return aliases[-1] if aliases else None

    def pin(self) -> None:
        """A watch holds the inode from now on.  Linux: igrab()."""

    def unpin(self) -> None:
        """A watch let go of the inode.  Linux: iput()."""


class Dentry:
    """A name of an inode in a directory.  Linux: struct dentry.

    Open files keep theirs: after a rename it shows the new name, after an
    unlink the old one.  users counts them, and unlinked ones that held it.
    """

    __slots__ = ("held", "inode", "name", "parent", "unlinked", "users")

    def __init__(self, parent: Inode, name: bytes, inode: Inode) -> None:
        self.parent = parent
        self.name = name
        self.inode = inode
        self.unlinked = False
        self.users = 0
        self.held: Dentry | None = None


class Watch:
    """A request to hear of events on an inode.  Seed: struct inotify_watch.

    Consumers subclass it with what they want to find in handle_event().
    mask holds the event bits, IN_ONESHOT and, where honoured, IN_EXCL_UNLINK.
    """

    __slots__ = ("attached", "handle", "inode", "mask", "references", "wd")

    handle: Handle
    inode: Inode

    def __init__(self) -> None:
        self.wd = 0
        self.mask = 0
        self.references = 0
        self.attached = False


class Operations(Protocol):
    """What a consumer does with its watches.  Seed: struct inotify_operations."""

    def handle_event(
        self, watch: Watch, wd: int, mask: int, cookie: int, name: bytes | None
    ) -> None:
        """Take one event.  Where watch is no longer attached, put_watch() it."""

    def destroy_watch(self, watch: Watch) -> None:
        """Free what was allocated with the watch: its last reference is gone."""


def get_watch(watch: Watch) -> None:
    """Take a reference to a watch.  Seed: get_inotify_watch()."""
    watch.references += 1


def put_watch(watch: Watch) -> None:
    """Drop a reference; the last one unpins the inode and destroys the watch.

    Seed: put_inotify_watch().
    """
    watch.references -= 1
    if not watch.references:
        watch.inode.unpin()
        watch.handle.operations.destroy_watch(watch)


class Handle:
    """A consumer's set of watches.  Seed: struct inotify_handle.

    Watch descriptors count from 1 and are never used twice.
    """

    def __init__(self, operations: Operations, policy: Policy) -> None:
        self.operations = operations
        self.policy = policy
        self.last_wd = 0
        self._watches: dict[int, Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def watches(self) -> Iterable[Watch]:
        """Return the attached watches, oldest first."""
        return self._watches.values()

    def take_wd(self) -> int:
        """Return the next watch descriptor.  Seed: inotify_handle_get_wd()."""
        self.last_wd += 1
        return self.last_wd

    def find_update_watch(self, inode: Inode, mask: int) -> int | None:
        """Give this handle's watch on inode a new mask and return its wd.

        IN_MASK_ADD adds to the mask instead.  Returns None where the inode is
        not watched.  Seed: inotify_find_update_watch().

        Raises InvalidMask (EINVAL), WatchExists (EEXIST).
        """
        wanted = self._wanted(mask)
        for watch in inode.watches:
            if watch.handle is self:
                break
        else:
            return None
        if mask & IN_MASK_CREATE and self.policy.honours_mask_create:
            raise WatchExists(f"wd {watch.wd} watches it already")
        watch.mask = watch.mask | wanted if mask & IN_MASK_ADD else wanted
        return watch.wd

    def add_watch(self, watch: Watch, inode: Inode, mask: int) -> int:
        """Attach a new watch, allocated by the caller, and return its wd.

        To be called once per watch, after find_update_watch() found none.
        Seed: inotify_add_watch().

        Raises InvalidMask (EINVAL).
        """
        watch.mask = self._wanted(mask)
        watch.wd = self.take_wd()
        watch.handle = self
        watch.inode = inode
        watch.attached = True
        inode.pin()
        get_watch(watch)
        self._watches[watch.wd] = watch
        inode.watches = [watch, *inode.watches]
        return watch.wd

    def get_watch(self, wd: int) -> Watch:
        """Return the attached watch with this descriptor.

        Raises NoSuchWatch (EINVAL).
        """
        watch = self._watches.get(wd)
        if watch is None:
            raise NoSuchWatch(f"no watch has the descriptor {wd}")
        return watch

    def rm_wd(self, wd: int) -> None:
        """Remove a watch; its owner is told by IN_IGNORED.  Seed: inotify_rm_wd().

        Raises NoSuchWatch (EINVAL).
        """
        self.remove_watch(self.get_watch(wd))

    def remove_watch(self, watch: Watch) -> None:
        """Detach a watch and tell its owner.  Seed: remove_watch()."""
        self.detach(watch)
        self.operations.handle_event(watch, watch.wd, IN_IGNORED, 0, None)

    def detach(self, watch: Watch) -> None:
        """Detach a watch silently.  Seed: remove_watch_no_event()."""
        del self._watches[watch.wd]
        watch.attached = False
        inode = watch.inode
        inode.watches = [other for other in inode.watches if other is not watch] or ()

    def destroy(self) -> None:
        """Remove all watches without a word.  Seed: inotify_destroy()."""
        for watch in tuple(self._watches.values()):
            self.detach(watch)
            put_watch(watch)

    def _wanted(self, mask: int) -> int:
        """Return the bits of mask that a watch keeps."""
        reason = self.policy.refuses_at_once(mask)
        wanted = mask & self.policy.watch_bits
        if reason or not (wanted or self.policy.strict_masks):
            raise InvalidMask(reason or "the mask names no event")
        return wanted


class Core:
    """The producers' side, and the maker of handles.  One per filesystem.

    actor is who causes what is queued now, or None where nobody can be named;
    a producer sets it before it queues, and consumers may ask it.
    """

    def __init__(self) -> None:
        self.actor: Actor | None = None
        self._cookies = count(1)

    def init(self, operations: Operations, policy: Policy) -> Handle:
        """Return a new handle whose owner is called through operations.

        Seed: inotify_init().
        """
        return Handle(operations, policy)

    def next_cookie(self) -> int:
        """Return a cookie for the two halves of a rename, 32 bits, never 0.

        Seed: inotify_get_cookie().
        """
        return next(self._cookies) & 0xFFFFFFFF or self.next_cookie()

    def queue_event(
        self,
        inode: Inode,
        mask: int,
        cookie: int = 0,
        name: bytes | None = None,
        unlinked: bool = False,
    ) -> None:
        """Tell the watches on inode that asked for it.

        name is an entry's where inode is its directory; unlinked says that
        the event came through a name that is gone, which IN_EXCL_UNLINK does
        not want to hear of.  Seed: inotify_inode_queue_event().
        """
        mask &= _PRODUCIBLE
        for watch in tuple(inode.watches):
            wanted = watch.mask
            if not wanted & mask & IN_ALL_EVENTS or not watch.attached:
                continue
            if unlinked and wanted & IN_EXCL_UNLINK:
                continue
            handle = watch.handle
            if not wanted & IN_ONESHOT:
                handle.operations.handle_event(watch, watch.wd, mask, cookie, name)
            elif handle.policy.oneshot_ends_with_ignored:
                handle.operations.handle_event(watch, watch.wd, mask, cookie, name)
                handle.remove_watch(watch)
            else:
                handle.detach(watch)
                handle.operations.handle_event(watch, watch.wd, mask, cookie, name)

    def queue_parent_event(
        self, dentry: Dentry, mask: int, cookie: int = 0, unlinked: bool = False
    ) -> None:
        """Tell the watches on a name's directory.

        Seed: inotify_dentry_parent_queue_event().  What its flag in each
        child saves, looking at the parent, is one attribute here.
        """
        if dentry.parent.watches:
            self.queue_event(dentry.parent, mask, cookie, dentry.name, unlinked)

    def instantiate(self, parent: Inode, name: bytes, inode: Inode) -> Dentry:
        """Say that name in parent is inode, and return its dentry.

        Seed: inotify_d_instantiate().  A dentry known for another inode is
        unhashed: the tree was changed behind the filesystem.
        """
        children = parent.children
        if children is None:
            children = parent.children = {}
        dentry = children.get(name)
        if dentry is not None:
            if dentry.inode is inode:
                if inode.aliases[-1] is not dentry:
                    others = (alias for alias in inode.aliases if alias is not dentry)
                    inode.aliases = (*others, dentry)
                return dentry
            self.unhash(dentry)
        dentry = children[name] = Dentry(parent, name, inode)
        others = (alias for alias in inode.aliases if not alias.unlinked)
        inode.aliases = (*others, dentry)
        return dentry

    def move(self, dentry: Dentry, parent: Inode, name: bytes) -> None:
        """Say that a dentry was renamed.  Seed: inotify_d_move().

        What bore the new name is unhashed.
        """
        del _children(dentry.parent)[dentry.name]
        if parent.children is None:
            parent.children = {}
        elif replaced := parent.children.get(name):
            self.unhash(replaced)
        parent.children[name] = dentry
        dentry.parent, dentry.name = parent, name

    def exchange(self, one: Dentry, other: Dentry) -> None:
        """Say that two dentries swapped their places (RENAME_EXCHANGE)."""
        _children(one.parent)[one.name] = other
        _children(other.parent)[other.name] = one
        one.parent, other.parent = other.parent, one.parent
        one.name, other.name = other.name, one.name

    def unhash(self, dentry: Dentry) -> None:
        """Say that a name is gone.  Linux: d_drop()."""
        del _children(dentry.parent)[dentry.name]
        dentry.unlinked = True
        inode = dentry.inode
        others = tuple(alias for alias in inode.aliases if alias is not dentry)
        inode.aliases = others or (dentry,)

    def inode_is_dead(self, inode: Inode) -> None:
        """Remove all watches on an inode that was deleted.

        Seed: inotify_inode_is_dead().
        """
        for watch in tuple(inode.watches):
            if watch.attached:
                watch.handle.remove_watch(watch)

    def unmount(self, inodes: Iterable[Inode]) -> None:
        """Send IN_UNMOUNT, then IN_IGNORED, to every watch on the inodes.

        Seed: inotify_unmount_inodes().
        """
        for inode in inodes:
            for watch in tuple(inode.watches):
                if not watch.attached:
                    continue
                handle = watch.handle
                tells = inode.is_dir and handle.policy.unmount_tells_isdir
                mask = IN_UNMOUNT | IN_ISDIR if tells else IN_UNMOUNT
                handle.operations.handle_event(watch, watch.wd, mask, 0, None)
                handle.remove_watch(watch)


def _children(directory: Inode) -> dict[bytes, Dentry]:
    """Return the names of a directory that has some."""
    assert directory.children is not None
    return directory.children
