# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches and handles, the consumers' side of the core.  Seed: fs/inotify.c.

Consumers (engine.device, engine.statistics, or any other) own a handle, put
watches on inodes, and are called by engine.core once per matching event.

Lifetimes
    A handle lives from Core.init() to Handle.destroy(), and after that as long
        as one of its watches is referenced.
    A watch is attached from add_watch() until it is removed.  Its owner holds
        the first reference, and drops it (put_watch) when an event arrives for
        a watch that is no longer attached: IN_IGNORED, or the only event of a
        one-shot watch.  Handle.destroy() drops it itself.  With the last
        reference the owner's destroy_watch() is called.
    A watched inode stays pinned (Inode.pin, Inode.unpin) from add_watch() to
        the last put_watch().

Invariants
    A watch is in its handle's table and its inode's list, or in neither; while
        it rests (engine.resting), a stand-in has its place in the list.  The
        list is a tuple, so a loop over it is not disturbed by changes.
    A handle has at most one ordinary watch and one tree watch on an inode.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, cast

from fusenotify.bits import IN_IGNORED, IN_MASK_ADD, IN_MASK_CREATE, IN_ONESHOT
from fusenotify.credentials import Actor
from fusenotify.engine.policy import Policy
from fusenotify.errors import InvalidMask, NoSuchWatch, WatchExists

if TYPE_CHECKING:
    from fusenotify.engine.inodes import Inode


class Hearing(Protocol):
    """The rule for the events that a tree watch may get.  engine.trees implements it."""

    def allows(self, directory: Inode, root: Inode) -> bool:
        """Return whether a watch on root may get events of a directory below it now."""


class Unwanted(Protocol):
    """The events that a watch leaves out.  engine.exclusion implements it."""

    def has(self, mask: int, name: bytes | None, actor: Actor | None) -> bool:
        """Return whether an event, caused by actor on a name, is left out."""


class Roots(Protocol):
    """The directories that have tree watches.  engine.trees implements it."""

    def added(self, root: Inode) -> None:
        """Record that a directory has one tree watch more."""

    def removed(self, root: Inode) -> None:
        """Record that a directory has one tree watch fewer."""


class Watch:
    """A request for the events of an inode.  Seed: struct inotify_watch.

    Consumers subclass it to add what they need in handle_event().  mask has
    the event bits, IN_ONESHOT and, where the semantics honours it,
    IN_EXCL_UNLINK.  tree says that the watch also gets the events of everything
    below (engine.trees), as far as hearing allows.  unwanted decides which
    events it leaves out.  counts is false if it only follows other watches.
    """

    __slots__ = ("attached", "handle", "inode", "mask", "references", "unwanted", "wd")

    handle: Handle
    inode: Inode
    counts: bool = True
    tree: bool = False
    hearing: Hearing | None = None

    def __init__(self) -> None:
        self.wd = 0
        self.mask = 0
        self.references = 0
        self.attached = False
        self.unwanted: Unwanted | None = None


class Operations(Protocol):
    """The functions of a consumer.  Seed: struct inotify_operations."""

    def handle_event(
        self, watch: Watch, wd: int, mask: int, cookie: int, name: bytes | None
    ) -> None:
        """Take one event.  If the watch is no longer attached, call put_watch() for it."""

    def destroy_watch(self, watch: Watch) -> None:
        """Free what was allocated with the watch: its last reference is gone."""


class TreeOperations(Operations, Protocol):
    """The functions of a consumer that has tree watches."""

    def handle_event(
        self,
        watch: Watch,
        wd: int,
        mask: int,
        cookie: int,
        name: bytes | None,
        below: Inode | None = None,
    ) -> None:
        """Take one event.

        For a tree watch, below may be the directory below its own in which the
        event happened.  name is then the path from the watched directory, and
        ends in a slash if the event is about the directory below itself.
        """


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


def tell(
    watch: Watch, mask: int, cookie: int, name: bytes | None, below: Inode | None = None
) -> None:
    """Pass an event to the owner of a watch that asked for it; a one-shot watch ends with it."""
    handle = watch.handle
    ends = watch.mask & IN_ONESHOT
    if ends and not handle.policy.oneshot_ends_with_ignored:
        handle.detach(watch)
    if below is None:
        handle.operations.handle_event(watch, watch.wd, mask, cookie, name)
    else:
        handle.tell_below(watch, watch.wd, mask, cookie, name, below)
    if ends and handle.policy.oneshot_ends_with_ignored:
        handle.remove_watch(watch)


class Handle:
    """A consumer's set of watches.  Seed: struct inotify_handle.

    Watch descriptors count from 1 and are never used twice.  tree_roots are
    those of the filesystem.  tell_below passes events to the owner, with the
    directory below a tree watch.
    """

    def __init__(self, operations: Operations, policy: Policy, tree_roots: Roots) -> None:
        self.operations = operations
        self.tell_below = cast(TreeOperations, operations).handle_event
        self.policy = policy
        self.tree_roots = tree_roots
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

    def find_update_watch(
        self, inode: Inode, mask: int, tree: bool = False, unwanted: Unwanted | None = None
    ) -> int | None:
        """Give this handle's watch, or tree watch, on inode a new mask and return its wd.

        With IN_MASK_ADD, mask is added to the watch's mask instead, and the
        watch keeps its unwanted if unwanted is None.  Returns None if there is
        no such watch.  Seed: inotify_find_update_watch().

        Raises InvalidMask (EINVAL), WatchExists (EEXIST).
        """
        wanted = self._wanted(mask)
        for watch in inode.watches:
            if watch.handle is self and watch.tree == tree:
                break
        else:
            return None
        if mask & IN_MASK_CREATE and self.policy.honours_mask_create:
            raise WatchExists(f"wd {watch.wd} watches it already")
        watch.mask = watch.mask | wanted if mask & IN_MASK_ADD else wanted
        inode.watched()
        if unwanted is not None or not mask & IN_MASK_ADD:
            watch.unwanted = unwanted
        return watch.wd

    def add_watch(self, watch: Watch, inode: Inode, mask: int) -> int:
        """Attach a new watch, allocated by the caller, and return its wd.

        Call it once per watch, after find_update_watch() returned None.
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
        inode.watches = (watch, *inode.watches)
        if watch.tree:
            self.tree_roots.added(inode)
        inode.watched()
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
        """Remove a watch; its owner gets IN_IGNORED.  Seed: inotify_rm_wd().

        Raises NoSuchWatch (EINVAL).
        """
        self.remove_watch(self.get_watch(wd))

    def remove_watch(self, watch: Watch) -> None:
        """Detach a watch and send its owner IN_IGNORED.  Seed: remove_watch()."""
        self.detach(watch)
        self.operations.handle_event(watch, watch.wd, IN_IGNORED, 0, None)

    def detach(self, watch: Watch) -> None:
        """Detach a watch silently.  Seed: remove_watch_no_event()."""
        del self._watches[watch.wd]
        watch.attached = False
        inode = watch.inode
        inode.watches = tuple([other for other in inode.watches if other is not watch])
        if watch.tree:
            self.tree_roots.removed(inode)
        inode.watched()

    def destroy(self) -> None:
        """Remove all watches without IN_IGNORED.  Seed: inotify_destroy()."""
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
