# SPDX-License-Identifier: GPL-2.0-or-later
"""Tree watches: which of them hear of a directory below, by which path, and who may.

A tree watch is a watch on its directory as any other (engine.watches), and is
told there what happens in it.  While there are some, engine.core asks this
module for what happens in other directories: the way up from one, by dentries,
leads to the watched directories above it.

A tree watch says what ordinary watches on all directories below would say, each
from the moment its directory is in the tree until it leaves it or is dead.

Invariants
    roots has each directory that a tree watch is attached to, and no other.
    What is kept of directories below can be forgotten at any time, and is
        when it may be wrong: none is listed or pinned.
    All ways up and down are loops, with memory that users cannot make grow.
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

# How long a verdict holds, in seconds: what changes behind the filesystem tells nobody.
VERDICT_SECONDS = 1.0
# How many verdicts are remembered, of all users, and how many bytes of ways, with what a way
# takes beside its paths, and beside each.
_MOST_VERDICTS = 100_000
_MOST_BYTES = 8 * 1024 * 1024
_WAY_BYTES, _PATH_BYTES = 800, 100
# Ways of so many directories are judged within the user's share of time (engine.time_share).
DEEP = 1000
_LOOK_AT_TIME_EACH = 64
_MOST_USERS = 1000
# Paths of more bytes together are remembered for one directory, not for all above it.
_LONG_PATH = 4096
# How many bytes the paths to one directory take together, but for those that are SHORT: a user may
# watch a hundred directories on the way to one that is a megabyte of names away.
MOST_TOGETHER = 4 * MOST_BYTES
SHORT = 16 * 1024
# Stands for a path that is too long to be made, as for any that no read can give.
TOO_LONG = bytes(MOST_BYTES)

# The watched directories above one, the nearest first, and the path down from
# each, which ends in a slash, or TOO_LONG.
Above = tuple[tuple[Inode, bytes], ...]


class Permissions(Protocol):
    """Who may do what now, as the filesystem says."""

    def may_refuse(self, who: Credentials) -> bool:
        """Return whether there may be a directory that who may not read or search."""

    def may_read(self, directory: Inode, who: Credentials) -> bool:
        """Return whether who may list a directory."""

    def may_search(self, directory: Inode, who: Credentials) -> bool:
        """Return whether who may use the names in a directory."""


class NoPermissions:
    """Those of an engine without a filesystem: everybody may do everything."""

    def may_refuse(self, who: Credentials) -> bool:
        return False

    def may_read(self, directory: Inode, who: Credentials) -> bool:
        return True

    def may_search(self, directory: Inode, who: Credentials) -> bool:
        return True


class UsersHearing:
    """What a user may hear of trees: the verdicts on directories, remembered.

    All tree watches of a user share it: what it costs does not grow with them.
    """

    def __init__(self, trees: Trees, who: Credentials, time_share: TimeShare) -> None:
        self._trees = trees
        self._who = who
        self._time = time_share
        self._changes = trees.changes
        self._until = 0.0
        self._readable: dict[Inode, bool] = {}
        # How far down a directory is, and how far down the uppermost one from which on the user
        # may search all to it; one more than itself, where not even that.
        self._searchable: dict[Inode, tuple[int, int]] = {}

    def allows(self, directory: Inode, root: Inode) -> bool:
        """Return whether the user could watch a directory below root now.

        That takes leave to read it, and to search all from root to above it.

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
        """Remember nothing."""
        self._readable.clear()
        self._searchable.clear()

    def _search(self, directory: Inode) -> tuple[int, int]:
        """Return how far down a directory is, and where the way begins that may be searched."""
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
        """Judge what _unknown() returned, and return the verdict on its first directory.

        Whether there is time is looked at with each so many.

        Raises OutOfTime; what was judged until then is remembered.
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
        """Return the directories from one up to below one that is known, or to the root.

        Of more than most there are the lowest.
        """
        way: list[Inode] = []
        above: Inode | None = directory
        while above is not None and above not in self._searchable and len(way) < most:
            way.append(above)
            above = None if above.dentry is None else above.dentry.parent
        return way


class TreeWatch(Watch):
    """A watch on a directory and all below.  Without hearing it hears everything."""

    __slots__ = ("hearing",)

    tree = True

    def __init__(self, hearing: Hearing | None = None) -> None:
        super().__init__()
        self.hearing = hearing


class Trees:
    """The tree watches of a filesystem.

    roots says how many there are on a directory.  permissions are the
    filesystem's.  changes counts what may have made a verdict or a path wrong.
    known is what above() found, as far as it is remembered.
    times are the shares of time for judging deep directories, by uid, also of users who have no
    watch now and may soon have the next.  clock is in seconds.
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

    # What engine.watches says.

    def added(self, root: Inode) -> None:
        """A directory has one tree watch more."""
        self.roots[root] = self.roots.get(root, 0) + 1
        self._changed()

    def removed(self, root: Inode) -> None:
        """A directory has one tree watch less."""
        self.roots[root] -= 1
        if not self.roots[root]:
            del self.roots[root]
        self._changed()

    # What engine.core and engine.hooks say.

    def moved(self) -> None:
        """A directory has another name, and so has all below it."""
        if self.roots:
            self._changed()

    def permissions_changed(self) -> None:
        """The mode, the owner or the ACL of a directory may be another one."""
        self.changes += 1

    # What engine.core asks.

    def hearing(self, who: Credentials) -> UsersHearing | None:
        """Return what who may hear of trees; None where that is everything."""
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
        """Count verdicts; return whether all were forgotten, as where there are too many."""
        full = self._verdicts + count > _MOST_VERDICTS
        if full:
            self._verdicts = 0
            for hearing in list(self._hearings.values()):
                hearing.forget()
        self._verdicts += count
        return full

    def above(self, directory: Inode) -> Above:
        """Return the watched directories above one, the nearest first.

        With each goes the path from it to the directory, which ends in a slash;
        TOO_LONG where those from directories further up take all the room.
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
        """Tell the tree watches above a directory what its own watches were told.

        above is what above() returned; only are the watched directories of which
        watches are told, where not all are; actor is who did it.
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
                        tell(watch, mask, cookie, TOO_LONG, directory)  # which loses it
                        continue
                if not wanted & IN_ONESHOT:
                    watch.handle.tell_below(watch, watch.wd, mask, cookie, path, directory)
                else:
                    tell(watch, mask, cookie, path, directory)

    def _changed(self) -> None:
        self.changes += 1
        self._forget_ways()

    def _find(self, directory: Inode) -> Above:
        """Go up to the root, or to what is known, and come down again."""
        way: dict[Inode, Dentry] = {}
        upper = directory
        while (found := self.known.get(upper)) is None:
            dentry = upper.dentry
            # Names changed behind the filesystem may lead in a circle.
            if dentry is None or upper in way:
                found = ()
                break
            way[upper] = dentry
            upper = dentry.parent
        while way and sum([len(path) for _, path in found]) <= _LONG_PATH:
            below, dentry = way.popitem()
            found = self._down(found, [dentry])
            self._remember(below, found)
        if way:  # each path between would be as long
            found = self._down(found, reversed(way.values()))
            self._remember(directory, found)
        return found

    def _down(self, above: Above, way: Iterable[Dentry]) -> Above:
        """Return what is above the end of a way of names, given what is above its beginning."""
        names: list[bytes] = []
        length = 0
        # Each with the names and the bytes before it, and the path to where the way begins.
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
