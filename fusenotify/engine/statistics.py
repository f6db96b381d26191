# SPDX-License-Identifier: GPL-2.0-or-later
"""The statistics: a second consumer of the core, which counts events instead of queueing them.

Devices report what they watch (follow, unfollow), and the statistics watch the
same objects, so objects that nobody watches cost nothing.  The server shows the
counts.

Each event of a watched object is counted once, however many devices watch the
object and whatever their masks are.  Below a tree watch all directories count
as watched.

Invariants
    An inode has one watch of the statistics while devices watch it, and none
        otherwise.  It is a tree watch while one of the devices' watches is.
    That watch is the newest, so it gets an event first: before a one-shot watch
        of a device, which the same event may end, and with it this watch.
    Memory is bounded by the number of watches, by PAST_DIRECTORIES and
        PAST_USERS, and by the different masks that hooks queue, which are few.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from fusenotify.bits import IN_ALL_EVENTS, IN_ISDIR, names
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.policy import LINUX_6
from fusenotify.engine.watches import Watch, put_watch

# How many directories that are no longer watched are remembered, and how many users.  The busiest
# ones are kept.
PAST_DIRECTORIES = 1000
PAST_USERS = 1000
# Longer paths, in names and bytes, are shown without their beginning.  Otherwise a user could end
# thousands of watches far down at once, each with a long path.
_MANY_NAMES = 32
_LONG_PATH = 4096


class Followed(Watch):
    """A watch of the statistics.

    devices is the number of devices' watches that it follows, trees the number of
    tree watches among them; while that is not 0 this is a tree watch, too.
    events counts the events.
    """

    __slots__ = ("devices", "events", "tree", "trees")

    counts = False

    def __init__(self, devices: int = 0, trees: int = 0, events: int = 0) -> None:
        super().__init__()
        self.devices = devices
        self.trees = trees
        self.tree = trees > 0
        self.events = events


class _Lately:
    """The events in a directory below trees since a tree changed, and the watch that counts them.

    path is the path of the directory from that of the watch.
    """

    __slots__ = ("counted_by", "events", "path")

    def __init__(self) -> None:
        self.counted_by: Followed | None = None
        self.path = b""
        self.events = 0


class Statistics:
    """Counts of events, and of what happened in devices' queues, since the mount was made.

    overflows, merged and lost are the sums for all devices, including closed
    ones; the devices count them.
    """

    def __init__(self, core: Core) -> None:
        self.overflows = self.merged = self.lost = 0
        self._core = core
        self._trees = core.trees
        self._handle = core.init(self, LINUX_6)
        self._masks: defaultdict[int, int] = defaultdict(int)
        self._users: Counter[int] = Counter()
        self._past: Counter[bytes] = Counter()
        # Events in directories below followed trees: those since the trees changed last, and the
        # earlier ones by the watched directory and the path from there.
        self._lately: dict[Inode, _Lately] = {}
        self._changes = 0
        self._below: Counter[tuple[Inode, bytes]] = Counter()

    # The functions that a device calls.

    def follow(self, inode: Inode, tree: bool = False) -> None:
        """Follow a new watch, or tree watch, of a device on inode."""
        self._replace(self._following(inode), inode, 1, int(tree))

    def unfollow(self, inode: Inode, tree: bool = False) -> None:
        """Stop following a watch, or tree watch, of a device on inode; it is gone."""
        followed = self._following(inode)
        if followed is None:
            return  # the inode is gone, too, and our watch was removed before
        if followed.devices == 1:
            self._look_again(inode)
            self._handle.detach(followed)
            self._end(followed)
        elif tree and followed.trees == 1:
            self._keep_below(inode)
            self._replace(followed, inode, -1, -1)
        else:
            followed.devices -= 1
            followed.trees -= tree

    # The counts that the server shows.

    def events(self) -> dict[str, int]:
        """Return the number of events by type, with the names of bits.names().

        An event of two types counts for both.  The kernel has such events: an
        open with O_TRUNC that removes set-id bits.
        """
        types: Counter[str] = Counter()
        for mask, count in sorted(self._masks.items()):
            for name in names(mask & ~IN_ISDIR):
                types[name] += count
        return dict(types)

    def directories(self, most: int) -> list[tuple[bytes, int]]:
        """Return the busiest directories with the number of their events, at most so many.

        A directory is shown by its path from the root of the filesystem, as it
        is now or was when the watch ended.  The events of a watched file count for
        its directory.
        """
        self._count_below()
        busy: Counter[Inode] = Counter()
        for followed in self._handle.watches():
            assert isinstance(followed, Followed)
            if followed.events:
                busy[_directory(followed.inode)] += followed.events
        counts = Counter(self._past)
        for directory, events in busy.most_common(PAST_DIRECTORIES):
            counts[_path(directory)] += events
        for (root, path), events in self._below.items():
            counts[_below(root, path)] += events
        return counts.most_common(most)

    def users(self, most: int) -> list[tuple[int, int]]:
        """Return the users who caused most events: uids and numbers of events, at most so many."""
        return self._users.most_common(most)

    # The functions that the core calls.

    def handle_event(
        self,
        watch: Watch,
        wd: int,
        mask: int,
        cookie: int,
        name: bytes | None,
        below: Inode | None = None,
    ) -> None:
        """Count an event."""
        assert isinstance(watch, Followed)
        if not watch.attached:  # IN_IGNORED
            self._end(watch)
            return
        if below is None:
            watch.events += 1
        else:
            lately = self._lately.get(below)
            if lately is None or self._changes != self._trees.changes:
                lately = self._look_below(below)
            if lately.counted_by is not watch:
                return
            lately.events += 1
        self._masks[mask] += 1
        actor = self._core.actor
        if actor is not None and actor.uid >= 0:
            users = self._users
            users[actor.uid] += 1
            if len(users) > 2 * PAST_USERS:
                self._users = Counter(dict(users.most_common(PAST_USERS)))

    def destroy_watch(self, watch: Watch) -> None:
        """Do nothing: nothing was allocated with the watch."""

    def _following(self, inode: Inode) -> Followed | None:
        """Return our watch on an inode, or None; it is one of the first in the list."""
        for watch in inode.watches:
            if isinstance(watch, Followed):
                return watch
        return None

    def _replace(self, followed: Followed | None, inode: Inode, devices: int, trees: int) -> None:
        """Replace our watch on inode, if there is one, by a new one, which is then the newest.

        It follows so many more watches of devices, and tree watches among them.
        """
        self._look_again(inode)
        newest = Followed(devices, trees)
        if followed is not None:
            newest = Followed(followed.devices + devices, followed.trees + trees, followed.events)
            self._handle.detach(followed)
            put_watch(followed)
        self._handle.add_watch(newest, inode, IN_ALL_EVENTS)

    def _look_below(self, below: Inode) -> _Lately:
        """Begin to count the events in a directory below trees, as the trees are now.

        If we have a watch on the directory itself, that counts them; otherwise
        the watch on the nearest tree does.
        """
        trees = self._trees
        if self._changes != trees.changes or len(self._lately) >= PAST_DIRECTORIES:
            self._count_below()
            self._changes = trees.changes
        lately = self._lately[below] = _Lately()
        if self._following(below) is None:
            for root, path in trees.above(below):
                lately.counted_by = self._following(root)
                if lately.counted_by is not None:
                    lately.path = path[-_LONG_PATH - 1 : -1]
                    break
        return lately

    def _look_again(self, directory: Inode) -> None:
        """Prepare for a change of who counts a directory: a watch on it begins or ends."""
        lately = self._lately.pop(directory, None)
        if lately is not None:
            self._take_down(lately)

    def _take_down(self, lately: _Lately) -> None:
        if lately.events and lately.counted_by is not None:
            self._below[lately.counted_by.inode, lately.path] += lately.events

    def _count_below(self) -> None:
        """Move the latest counts of directories below trees to _below."""
        for lately in self._lately.values():
            self._take_down(lately)
        self._lately.clear()
        if len(self._below) > 2 * PAST_DIRECTORIES:
            self._below = Counter(dict(self._below.most_common(PAST_DIRECTORIES)))

    def _end(self, followed: Followed) -> None:
        """Keep the counts of a detached watch, and drop the watch."""
        if followed.tree:
            self._keep_below(followed.inode)
        if followed.events:
            self._keep(_path(_directory(followed.inode)), followed.events)
        put_watch(followed)

    def _keep_below(self, root: Inode) -> None:
        """Keep the counts of directories below root, whose last tree watch is gone."""
        self._count_below()
        for heard in [heard for heard in self._below if heard[0] is root]:
            self._keep(_below(*heard), self._below.pop(heard))

    def _keep(self, directory: bytes, events: int) -> None:
        self._past[directory] += events
        if len(self._past) > 2 * PAST_DIRECTORIES:
            self._past = Counter(dict(self._past.most_common(PAST_DIRECTORIES)))


def _below(root: Inode, path: bytes) -> bytes:
    """Return the path of a directory below another."""
    return _path(root).rstrip(b"/") + b"/" + path


def _directory(inode: Inode) -> Inode:
    """Return inode if it is a directory, otherwise the directory that it is in."""
    if inode.is_dir or inode.dentry is None:
        return inode
    return inode.dentry.parent


def _path(directory: Inode) -> bytes:
    """Return the path of a directory; of a long path, only the end."""
    components: list[bytes] = []
    length = 0
    dentry = directory.dentry
    while dentry is not None and length < _LONG_PATH and len(components) < _MANY_NAMES:
        components.append(dentry.name)
        length += len(dentry.name) + 1
        dentry = dentry.parent.dentry
    if dentry is not None:
        components.append(b"...")
    return b"/" + b"/".join(reversed(components))
