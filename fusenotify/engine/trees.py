# SPDX-License-Identifier: GPL-2.0-or-later
"""Tree watches: which of them get the events of a directory, with which path, and who may.

A tree watch is a watch on its directory like any other (engine.watches), and
gets the events in that directory like any other.  While there are tree watches,
engine.core comes here with the events of other directories: the way up from a
directory, by dentries, leads to the watched directories above it.

A tree watch reports what ordinary watches on all directories below would
report, each from the moment its directory enters the tree until it leaves the
tree or is dead.

Invariants
    roots has each directory that a tree watch is attached to, and no other.
    Everything that is remembered about directories below can be forgotten at
        any time, and is forgotten when it may be wrong; no directory below is
        listed or pinned.
    All walks up and down are loops, and users cannot make their memory grow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Hashable, Iterable
from typing import Protocol
from weakref import WeakValueDictionary

from fusenotify.bits import IN_ALL_EVENTS, IN_EXCL_UNLINK, IN_ONESHOT
from fusenotify.credentials import Actor, Credentials
from fusenotify.engine.inodes import DEAD, Dentry, Inode
from fusenotify.engine.time_share import OutOfTime, TimeShare
from fusenotify.engine.watches import Hearing, Watch, tell
from fusenotify.events import MOST_BYTES

# How long a verdict holds, in seconds, since nothing reports changes behind the filesystem.
VERDICT_SECONDS = 1.0
# How many verdicts are remembered for all users together, and how many bytes of ways.  A way takes
# _WAY_BYTES, and for each path _PATH_BYTES and the path itself.
_MOST_VERDICTS = 100_000
_MOST_BYTES = 8 * 1024 * 1024
_WAY_BYTES, _PATH_BYTES = 800, 100
# The judging of ways of so many directories and more uses the user's share of time
# (engine.time_share), which is looked at after so many directories each.
DEEP = 1000
_LOOK_AT_TIME_EACH = 64
_MOST_USERS = 1000
# If the paths have more bytes together, they are remembered only for the directory itself, not
# for each directory above it.
_LONG_PATH = 4096
# How many bytes the paths to one directory may take together; paths up to SHORT bytes do not count.
# Otherwise a user could watch a hundred directories on the way to one that is a megabyte of names
# away.
MOST_TOGETHER = 4 * MOST_BYTES
SHORT = 16 * 1024
# A placeholder for a path that is too long to be built.  No read can return one so long.
TOO_LONG = bytes(MOST_BYTES)

# The watched directories above a directory, the nearest first, each with the path down from it,
# which ends in a slash or is TOO_LONG.
Above = tuple[tuple[Inode, bytes], ...]


class Permissions(Protocol):
    """The present permissions, as the filesystem answers for them."""

    def may_refuse(self, who: Credentials) -> bool:
        """Return whether there may be directories that the user may not read or search."""

    def may_read(self, directory: Inode, who: Credentials) -> bool:
        """Return whether the user may list a directory."""

    def may_search(self, directory: Inode, who: Credentials) -> bool:
        """Return whether the user may use the names in a directory."""


class NoPermissions:
    """The permissions of an engine without a filesystem: everybody may do everything."""

    def may_refuse(self, who: Credentials) -> bool:
        return False

    def may_read(self, directory: Inode, who: Credentials) -> bool:
        return True

    def may_search(self, directory: Inode, who: Credentials) -> bool:
        return True


class UsersHearing:
    """The directories of which a user's tree watches get events: remembered verdicts.

    All tree watches of a user share it, so its cost does not grow with their number.
    """

    def __init__(self, trees: Trees, who: Credentials, time_share: TimeShare) -> None:
        self._trees = trees
        self._who = who
        self._time = time_share
        self._changes = trees.changes
        self._until = 0.0
        self._readable: dict[Inode, bool] = {}
        # For a directory, its depth, and the depth of the uppermost directory from which down to
        # this one the user may search every directory.  If the user may not search this one, that
        # is its depth plus 1.
        self._searchable: dict[Inode, tuple[int, int]] = {}

    def allows(self, directory: Inode, root: Inode) -> bool:
        """Return whether the user could watch a directory below root now.

        This needs permission to read it, and to search each directory from root to its parent.

        Raises OutOfTime.
        """
        trees = self._trees
        if self._changes != trees.changes or trees.clock() >= self._until:
            self.forget()
            self._changes = trees.changes
            self._until = trees.clock() + VERDICT_SECONDS
        dentry = directory.dentry
        if dentry is None:
            return False
        _, uppermost = self._search(dentry.parent)
        if uppermost > self._search(root)[0]:
            return False
        verdict = self._readable.get(directory)
        if verdict is None:
            trees.make_room_for_verdicts(1)
            verdict = trees.permissions.may_read(directory, self._who)
            self._readable[directory] = verdict
        return verdict

    def forget(self) -> None:
        """Forget all verdicts."""
        self._readable.clear()
        self._searchable.clear()

    def _search(self, directory: Inode) -> tuple[int, int]:
        """Return the entry of a directory in _searchable, which is made if it is missing.

        Raises OutOfTime.
        """
        found = self._searchable.get(directory)
        if found is not None:
            return found
        self._time.begin()
        most = DEEP if self._time.wait() else math.inf
        way = self._unknown(directory, most)
        if len(way) == most:
            raise OutOfTime
        if self._trees.make_room_for_verdicts(len(way)):
            way = self._unknown(directory)
        if len(way) < DEEP:
            return self._judge(way, math.inf)
        try:
            return self._judge(way, _LOOK_AT_TIME_EACH)
        finally:
            self._time.end()

    def _judge(self, way: list[Inode], each: float) -> tuple[int, int]:
        """Judge the directories that _unknown() returned, and return the entry of the first.

        The time is checked once for each so many directories.

        Raises OutOfTime; the entries made until then are remembered.
        """
        dentry = way[-1].dentry
        depth, uppermost = (-1, 0) if dentry is None else self._searchable[dentry.parent]
        while way:
            if len(way) % each == 0 and self._time.is_used_up():
                raise OutOfTime
            below = way.pop()
            depth += 1
            if not self._trees.permissions.may_search(below, self._who):
                uppermost = depth + 1
            self._searchable[below] = depth, uppermost
        return depth, uppermost

    def _unknown(self, directory: Inode, most: float = math.inf) -> list[Inode]:
        """Return the directories from directory up to the root, or to below one that is known.

        If there are more than most, return only the lowest ones, most of them.
        """
        way: list[Inode] = []
        above: Inode | None = directory
        while above is not None and above not in self._searchable and len(way) < most:
            way.append(above)
            above = None if above.dentry is None else above.dentry.parent
        return way


class TreeWatch(Watch):
    """A watch on a directory and everything below it.  Without hearing it gets all events."""

    __slots__ = ("hearing",)

    tree = True

    def __init__(self, hearing: Hearing | None = None) -> None:
        super().__init__()
        self.hearing = hearing


class Trees:
    """The tree watches of a filesystem.

    roots has the number of tree watches on each directory.  permissions are those of
    the filesystem.  changes counts the changes that may have made a verdict or a path
    wrong.  known has the results of above() that are remembered.  times has the shares
    of time for judging deep directories, by uid; they are also kept for users who have
    no watch now and may soon have one.  clock is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.roots: dict[Inode, int] = {}
        self.permissions: Permissions = NoPermissions()
        self.clock = clock
        self.changes = 0
        self.known: dict[Inode, Above] = {}
        self._bytes = 0
        self._verdicts = 0
        self._hearings: WeakValueDictionary[Hashable, UsersHearing] = WeakValueDictionary()
        self.times: dict[int, TimeShare] = {}

    # The functions that engine.watches calls.

    def added(self, root: Inode) -> None:
        """Record that a directory has one tree watch more."""
        self.roots[root] = self.roots.get(root, 0) + 1
        self._changed()

    def removed(self, root: Inode) -> None:
        """Record that a directory has one tree watch fewer."""
        self.roots[root] -= 1
        if not self.roots[root]:
            del self.roots[root]
        self._changed()

    # The functions that engine.core, engine.hooks and devices call.

    def moved(self) -> None:
        """Record that a directory, and so everything below it, has another path."""
        if self.roots:
            self._changed()

    def permissions_changed(self) -> None:
        """Record that the mode, the owner or the ACL of a directory may have changed."""
        self.changes += 1

    def hearing(self, who: Credentials) -> UsersHearing | None:
        """Return the rule for the events that a user's tree watches may get; None for all."""
        if not self.permissions.may_refuse(who):
            return None
        judged_by = who.uid, who.gid, who.groups
        found = self._hearings.get(judged_by)
        if found is None:
            share = self._time_of(who.uid)
            found = self._hearings[judged_by] = UsersHearing(self, who, share)
        return found

    def _time_of(self, uid: int) -> TimeShare:
        if len(self.times) >= _MOST_USERS:
            self.times = {user: share for user, share in self.times.items() if share.wait()}
        return self.times.setdefault(uid, TimeShare())

    def make_room_for_verdicts(self, count: int) -> bool:
        """Count so many new verdicts; if there would be too many, forget all and return True."""
        full = self._verdicts + count > _MOST_VERDICTS
        if full:
            self._verdicts = 0
            for hearing in list(self._hearings.values()):
                hearing.forget()
        self._verdicts += count
        return full

    def above(self, directory: Inode) -> Above:
        """Return the watched directories above a directory, the nearest first.

        Each has the path from it to the directory, which ends in a slash.  The
        path is TOO_LONG if no read could return it, or if the paths from
        directories further up have taken all the room.
        """
        known = self.known.get(directory)
        return self._find(directory) if known is None else known

    def queue_event(
        self,
        above: Above,
        directory: Inode,
        mask: int,
        cookie: int,
        name: bytes | None,
        unlinked: bool,
        only: Container[Inode] | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Pass an event of a directory to the tree watches above it.

        above is the result of above().  only has the watched directories whose
        watches get the event; None stands for all.  actor caused the event.
        """
        if directory.unlinked == DEAD:
            return
        asked = mask & IN_ALL_EVENTS
        for root, path_down in above:
            if only is not None and root not in only:
                continue
            path = path_down if name is None or path_down is TOO_LONG else path_down + name
            for watch in root.watches:
                wanted = watch.mask
                if not watch.tree or not wanted & asked or not watch.attached:
                    continue
                if unlinked and wanted & IN_EXCL_UNLINK:
                    continue
                unwanted = watch.unwanted
                if unwanted is not None and unwanted.has(mask, path, actor):
                    continue
                hearing = watch.hearing
                if hearing is not None:
                    try:
                        if not hearing.allows(directory, root):
                            continue
                    except OutOfTime:
                        tell(watch, mask, cookie, TOO_LONG, directory)  # it counts as lost
                        continue
                if not wanted & IN_ONESHOT:
                    watch.handle.tell_below(watch, watch.wd, mask, cookie, path, directory)
                else:
                    tell(watch, mask, cookie, path, directory)

    def _changed(self) -> None:
        self.changes += 1
        self._forget_ways()

    def _find(self, directory: Inode) -> Above:
        """Find what above() returns: go up to the root or to a known directory, then down again."""
        way: dict[Inode, Dentry] = {}
        upper = directory
        while (found := self.known.get(upper)) is None:
            dentry = upper.dentry
            # Names that were changed behind the filesystem may lead in a circle.
            if dentry is None or upper in way:
                found = ()
                break
            way[upper] = dentry
            upper = dentry.parent
        while way and sum([len(path) for _, path in found]) <= _LONG_PATH:
            below, dentry = way.popitem()
            found = self._down(found, [dentry])
            self._remember(below, found)
        if way:  # the paths of the directories between would all be as long
            found = self._down(found, reversed(way.values()))
            self._remember(directory, found)
        return found

    def _down(self, above: Above, way: Iterable[Dentry]) -> Above:
        """Return the watched directories above the end of a way of names.

        above has the watched directories above its beginning.
        """
        names: list[bytes] = []
        length = 0
        # Watched directories, each with the number of names and of bytes of the way before it, and
        # its path to the beginning of the way.
        begins = [(root, 0, 0, path) for root, path in reversed(above)]
        for dentry in way:
            if dentry.parent in self.roots:
                begins.append((dentry.parent, len(names), length, b""))
            names.append(dentry.name)
            length += len(dentry.name) + 1
        names.append(b"")
        room = MOST_TOGETHER
        found = []
        for root, begin, bytes_before, path in begins:
            size = len(path) + length - bytes_before
            if size > SHORT:
                if path is TOO_LONG or size >= MOST_BYTES or size > room:
                    found.append((root, TOO_LONG))
                    continue
                room -= size
            found.append((root, path + b"/".join(names[begin:])))
        return tuple(reversed(found))

    def _remember(self, directory: Inode, above: Above) -> None:
        size = _WAY_BYTES + sum([_PATH_BYTES + len(path) for _, path in above])
        if self._bytes + size > _MOST_BYTES:
            self._forget_ways()
        self.known[directory] = above
        self._bytes += size

    def _forget_ways(self) -> None:
        self.known.clear()
        self._bytes = 0
