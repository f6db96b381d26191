# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches of devices whose queue is full rest, and one stand-in counts the events for all of them.

A thousand clients that do not read would cost the filesystem a thousand calls
for each event, which all of them drop.  So a watch whose event was dropped
leaves its inode's list; a stand-in takes the place of all watches that get the
same events.  The watch comes back when there is room in its device's queue.
engine.device decides when; to the core, a stand-in is a watch like any other.

Invariants
    A resting watch stays attached, in its handle's table, and holds its inode.
    Events that a resting watch misses are counted as if it had dropped them.
"""

from __future__ import annotations

from collections.abc import Callable

from fusenotify.engine.core import Inode
from fusenotify.engine.policy import LINUX_6
from fusenotify.engine.statistics import Statistics
from fusenotify.engine.watches import Handle, Roots, Watch


class StandIn(Watch):
    """A watch in the place of the resting watches of an inode that get the same events.

    All of these have the same mask, and are either ordinary watches or tree
    watches of one user.  resting maps each to the function that wakes it;
    dropped counts the events.
    """

    __slots__ = ("dropped", "hearing", "resting", "tree")

    def __init__(self, handle: Handle, watch: Watch) -> None:
        super().__init__()
        self.handle = handle
        self.inode = watch.inode
        self.mask = watch.mask
        self.tree = watch.tree
        self.hearing = watch.hearing
        self.attached = True
        self.dropped = 0
        self.resting: dict[Watch, Callable[[Watch], None]] = {}

    def hears_as(self, watch: Watch) -> bool:
        """Return whether it gets the same events as watch, which is on the same inode."""
        return self.mask == watch.mask and self.tree == watch.tree and self.hearing is watch.hearing


class Rest(Handle):
    """The handle and the consumer of the stand-ins of a mount."""

    def __init__(self, statistics: Statistics, tree_roots: Roots) -> None:
        super().__init__(self, LINUX_6, tree_roots)
        self._statistics = statistics

    def lay(self, watch: Watch, wake: Callable[[Watch], None]) -> tuple[StandIn, int]:
        """Let a watch rest that has just dropped an event.

        wake will be called before the watch is removed.  Returns its stand-in,
        and the number of events that the stand-in dropped before it stood in for
        this watch.
        """
        inode = watch.inode
        watches = inode.watches
        stand_in = next(
            (other for other in watches if isinstance(other, StandIn) and other.hears_as(watch)),
            None,
        )
        # The event goes through the list in order: a stand-in further on will count it, too.
        place = watches.index(watch)
        hears_later = stand_in is not None and watches.index(stand_in) > place
        if stand_in is None:
            stand_in = StandIn(self, watch)
            # The loop that passes the event on does not see the new stand-in, so this must not
            # be behind the watches that the loop still has to reach (hears_later).  The
            # statistics stay first.
            before = min(place, 1)
            watches = (*watches[:before], stand_in, *watches[before:])
        inode.watches = tuple([other for other in watches if other is not watch])
        stand_in.resting[watch] = wake
        return stand_in, stand_in.dropped + hears_later

    def wake(self, watch: Watch, stand_in: StandIn) -> None:
        """Put a watch back into its inode's list."""
        del stand_in.resting[watch]
        stand_in.attached = bool(stand_in.resting)
        inode = watch.inode
        kept = [other for other in inode.watches if other is not stand_in or stand_in.attached]
        inode.watches = (*kept, watch)

    def remove_watch(self, watch: Watch) -> None:
        """Remove the resting watches, since the inode is gone.  Seed: remove_watch()."""
        assert isinstance(watch, StandIn)
        for resting, wake in tuple(watch.resting.items()):
            wake(resting)
            resting.handle.remove_watch(resting)

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
        """Count an event that the resting watches drop."""
        assert isinstance(watch, StandIn)
        watch.dropped += 1
        self._statistics.lost += len(watch.resting)

    def destroy_watch(self, watch: Watch) -> None:
        """Do nothing: a stand-in ends with the last watch that it stands in for."""
