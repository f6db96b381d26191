# SPDX-License-Identifier: GPL-2.0-or-later
"""The statistics: a second consumer of the core, which counts where a device queues.

Devices say what they watch (follow, unfollow), and the statistics watch the
same: what nobody watches costs nothing.  The server shows what was counted.

What is counted is what happened to watched objects, each event of each once,
however many devices watch it and whatever their masks ask for.  Below a tree
watch all directories are watched.

Invariants
    An inode has one watch of the statistics while a device watches it, and
        none else.  It is a tree watch while one of theirs is.
    That watch is the newest, so it is told first: before a one-shot watch of
        a device, which may end the following by the same event.
    Memory is bounded: by the watches there are, PAST_DIRECTORIES and PAST_USERS,
        and the masks that hooks queue, which are few.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from fusenotify.bits import IN_ALL_EVENTS, IN_ISDIR, names
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.policy import LINUX_6
from fusenotify.engine.watches import Watch, put_watch

# How many directories that are no longer watched are remembered, and how many users: the busiest.
PAST_DIRECTORIES = 1000
PAST_USERS = 1000
# How long a path may become, in names and bytes, before its beginning is left out.  Whoever has
# thousands of watches far down may let go of them all at once.
_MANY_NAMES = 32
_LONG_PATH = 4096


class Followed(Watch):
    """A watch of the statistics: how many devices' watches it follows, what it heard.

    trees are those of the devices' watches that are tree watches; while there
    are some it is one, too.
    """

    __slots__ = ("devices", "events", "tree", "trees")

    def __init__(self, devices: int = 0, trees: int = 0, events: int = 0) -> None:
        super().__init__()
        self.devices = devices
        self.trees = trees
        self.tree = trees > 0
        self.events = events


class _Lately:
    """What a directory below trees said since these changed, and which watch counts it."""

    __slots__ = ("counted_by", "events", "path")

    def __init__(self) -> None:
        self.counted_by: Followed | None = None
        self.path = b""
        self.events = 0


class Statistics:
    """What happened to watched objects, and in devices' queues, since the mount was made.

    overflows, merged and lost are those of all devices, closed ones included;
    the devices count them.
    """

    def __init__(self, core: Core) -> None:
        self.overflows = self.merged = self.lost = 0
        self._core = core
        self._trees = core.trees
        self._handle = core.init(self, LINUX_6)
        self._masks: defaultdict[int, int] = defaultdict(int)
        self._users: Counter[int] = Counter()
        self._past: Counter[bytes] = Counter()
        # Events in directories below followed trees: lately, and by the tree and the path from it.
        self._lately: dict[Inode, _Lately] = {}
        self._changes = 0
        self._below: Counter[tuple[Inode, bytes]] = Counter()

    # What a device says.

    def follow(self, inode: Inode, tree: bool = False) -> None:
        """A device has a new watch on inode, or a new tree watch."""
        self._replace(self._following(inode), inode, 1, int(tree))

    def unfollow(self, inode: Inode, tree: bool = False) -> None:
        """A device's watch on inode is gone, or its tree watch."""
        followed = self._following(inode)
        if followed is None:
            return  # the inode is gone, too: ours was removed before
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

    # What the server shows.

    def events(self) -> dict[str, int]:
        """Return the events by type, named as masks.names() does.

        One that is of two types, as the kernel tells an O_TRUNC that takes
        set-id bits, counts for both.
        """
        types: Counter[str] = Counter()
        for mask, count in sorted(self._masks.items()):
            for name in names(mask & ~IN_ISDIR):
                types[name] += count
        return dict(types)

    def directories(self, most: int) -> list[tuple[bytes, int]]:
        """Return the busiest directories and their events, at most so many.

        A directory is named as it is now, or was when its watch ended, by its
        path from the root of the tree.  A watched file counts for the
        directory it is in.
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
        """Return who caused most events, by uid, and how many, at most so many."""
        return self._users.most_common(most)

    # What the core calls.

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
        if actor is not None:
            users = self._users
            users[actor.uid] += 1
            if len(users) > 2 * PAST_USERS:
                self._users = Counter(dict(users.most_common(PAST_USERS)))

    def destroy_watch(self, watch: Watch) -> None:
        """Nothing was allocated with it."""

    def _following(self, inode: Inode) -> Followed | None:
        """Return our watch on an inode; it is among the first, where there is one."""
        for watch in inode.watches:
            if isinstance(watch, Followed):
                return watch
        return None

    def _replace(self, followed: Followed | None, inode: Inode, devices: int, trees: int) -> None:
        """Have a newest watch on inode in place of one, for so many more watches of devices."""
        self._look_again(inode)
        newest = Followed(devices, trees)
        if followed is not None:
            newest = Followed(followed.devices + devices, followed.trees + trees, followed.events)
            self._handle.detach(followed)
            put_watch(followed)
        self._handle.add_watch(newest, inode, IN_ALL_EVENTS)

    def _look_below(self, below: Inode) -> _Lately:
        """Begin to count what a directory below trees says, as these are now.

        It is for the watch on the directory itself where there is one, else
        for that on the nearest tree.
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
        """A directory begins or ends to be followed itself."""
        lately = self._lately.pop(directory, None)
        if lately is not None:
            self._take_down(lately)

    def _take_down(self, lately: _Lately) -> None:
        if lately.events and lately.counted_by is not None:
            self._below[lately.counted_by.inode, lately.path] += lately.events

    def _count_below(self) -> None:
        """Take down what directories below trees said lately."""
        for lately in self._lately.values():
            self._take_down(lately)
        self._lately.clear()
        if len(self._below) > 2 * PAST_DIRECTORIES:
            self._below = Counter(dict(self._below.most_common(PAST_DIRECTORIES)))

    def _end(self, followed: Followed) -> None:
        """Keep what a detached watch heard, and let go of it."""
        if followed.tree:
            self._keep_below(followed.inode)
        if followed.events:
            self._keep(_path(_directory(followed.inode)), followed.events)
        put_watch(followed)

    def _keep_below(self, root: Inode) -> None:
        """Keep what was heard in directories below one, whose last tree watch is gone."""
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
    """Return a directory itself, or that which a file is in."""
    if inode.is_dir or inode.dentry is None:
        return inode
    return inode.dentry.parent


def _path(directory: Inode) -> bytes:
    """Return the path of a directory, its end where it is long."""
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
