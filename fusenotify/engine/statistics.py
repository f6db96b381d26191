# SPDX-License-Identifier: GPL-2.0-or-later
"""The statistics: a second consumer of the core, which counts where a device queues.

Devices say what they watch (follow, unfollow), and the statistics watch the
same: what nobody watches costs nothing.  The server shows what was counted.

What is counted is what happened to watched objects, each event of each once,
however many devices watch it and whatever their masks ask for.

Invariants
    An inode has one watch of the statistics while a device watches it, and
        none else.
    That watch is the newest, so it is told first: before a one-shot watch of
        a device, which may end the following by the same event.
    Memory is bounded: by the watches there are, and PAST_DIRECTORIES.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from fusenotify.engine.core import Core, Inode
from fusenotify.engine.policy import LINUX_6
from fusenotify.engine.watches import Watch, put_watch
from fusenotify.masks import IN_ALL_EVENTS, IN_ISDIR, names

# How many directories are remembered, the busiest, when they are no longer watched.
PAST_DIRECTORIES = 1000
# How long a path may become, in bytes, before its beginning is left out.
_LONG_PATH = 4096


class Followed(Watch):
    """A watch of the statistics: how many devices' watches it follows, what it heard."""

    __slots__ = ("devices", "events")

    def __init__(self, devices: int = 0, events: int = 0) -> None:
        super().__init__()
        self.devices = devices
        self.events = events


class Statistics:
    """What happened to watched objects, and in devices' queues, since the mount was made.

    overflows, merged and lost are those of all devices, closed ones included;
    the devices count them.
    """

    def __init__(self, core: Core) -> None:
        self.overflows = self.merged = self.lost = 0
        self._core = core
        self._handle = core.init(self, LINUX_6)
        self._masks: defaultdict[int, int] = defaultdict(int)
        self._users: defaultdict[int, int] = defaultdict(int)
        self._past: Counter[bytes] = Counter()

    # What a device says.

    def follow(self, inode: Inode) -> None:
        """A device has a new watch on inode."""
        followed = Followed()
        previous = self._following(inode)
        if previous is not None:
            followed = Followed(previous.devices, previous.events)
            self._handle.detach(previous)
            put_watch(previous)
        followed.devices += 1
        self._handle.add_watch(followed, inode, IN_ALL_EVENTS)

    def unfollow(self, inode: Inode) -> None:
        """A device's watch on inode is gone."""
        followed = self._following(inode)
        if followed is None:
            return  # the inode is gone, too: ours was removed before
        followed.devices -= 1
        if not followed.devices:
            self._handle.detach(followed)
            self._end(followed)

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
        counts = Counter(self._past)
        for followed in self._handle.watches():
            assert isinstance(followed, Followed)
            if followed.events:
                counts[_directory(followed.inode)] += followed.events
        return counts.most_common(most)

    def users(self, most: int) -> list[tuple[int, int]]:
        """Return who caused most events, by uid, and how many, at most so many."""
        return Counter(self._users).most_common(most)

    # What the core calls.

    def handle_event(
        self, watch: Watch, wd: int, mask: int, cookie: int, name: bytes | None
    ) -> None:
        """Count an event."""
        assert isinstance(watch, Followed)
        if not watch.attached:  # IN_IGNORED
            self._end(watch)
            return
        watch.events += 1
        self._masks[mask] += 1
        actor = self._core.actor
        if actor is not None:
            self._users[actor.uid] += 1

    def destroy_watch(self, watch: Watch) -> None:
        """Nothing was allocated with it."""

    def _following(self, inode: Inode) -> Followed | None:
        """Return our watch on an inode; it is among the first, where there is one."""
        for watch in inode.watches:
            if isinstance(watch, Followed):
                return watch
        return None

    def _end(self, followed: Followed) -> None:
        """Keep what a detached watch heard, and let go of it."""
        if followed.events:
            self._past[_directory(followed.inode)] += followed.events
            if len(self._past) > 2 * PAST_DIRECTORIES:
                self._past = Counter(dict(self._past.most_common(PAST_DIRECTORIES)))
        put_watch(followed)


def _directory(inode: Inode) -> bytes:
    """Return the path of a directory, or of that which a file is in."""
    dentry = inode.dentry
    if dentry is not None and not inode.is_dir:
        dentry = dentry.parent.dentry
    components: list[bytes] = []
    length = 0
    while dentry is not None and length < _LONG_PATH:
        components.append(dentry.name)
        length += len(dentry.name) + 1
        dentry = dentry.parent.dentry
    if dentry is not None:
        components.append(b"...")
    return b"/" + b"/".join(reversed(components))
