# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches of devices whose queue is full: they rest, and one stand-in counts for them all.

A thousand clients that do not read would cost the filesystem a thousand calls
for each event that all of them drop.  So a watch whose event was dropped leaves
its inode's list for a stand-in, one for all that hear the same, and comes back when there is
room in its device's queue.  engine.device decides when; the core sees a
watch like any other.

Invariants
    A resting watch stays attached, in its handle's table, and holds its inode.
    What a resting watch drops is counted as if it had been called.
"""

from __future__ import annotations

from collections.abc import Callable

from fusenotify.engine.core import Inode
from fusenotify.engine.policy import LINUX_6
from fusenotify.engine.statistics import Statistics
from fusenotify.engine.watches import Handle, Roots, Watch


class StandIn(Watch):
    """Takes the place of the resting watches of an inode that hear the same.

    These have one mask, and are tree watches of one user or no tree watches.
    resting maps them to what wakes each; dropped counts the events.
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
        """Return whether it hears what a watch on the same inode hears."""
        return self.mask == watch.mask and self.tree == watch.tree and self.hearing is watch.hearing


class Rest(Handle):
    """The stand-ins of a mount; it is their handle and their consumer."""

    def __init__(self, statistics: Statistics, tree_roots: Roots) -> None:
        super().__init__(self, LINUX_6, tree_roots)
        self._statistics = statistics

    def lay(self, watch: Watch, wake: Callable[[Watch], None]) -> tuple[StandIn, int]:
        """Let a watch rest that has just dropped an event.

        wake will be called before the watch is removed.  Returns its stand-in,
        and what that has dropped before it stood in for this one.
        """
        inode = watch.inode
        watches = inode.watches
        stand_in = next(
            (other for other in watches if isinstance(other, StandIn) and other.hears_as(watch)),
            None,
        )
        # An event goes round in the list's order: what stands behind has still to hear of it.
        place = watches.index(watch)
        hears_later = stand_in is not None and watches.index(stand_in) > place
        if stand_in is None:
            stand_in = StandIn(self, watch)
            # Before those that have not heard of it yet, behind the statistics, which are first.
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
        """The inode is gone: remove the watches that rest.  Seed: remove_watch()."""
        assert isinstance(watch, StandIn)
        for resting, wake in tuple(watch.resting.items()):
            wake(resting)
            resting.handle.remove_watch(resting)

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
        """Count an event that no resting watch can queue."""
        assert isinstance(watch, StandIn)
        watch.dropped += 1
        self._statistics.lost += len(watch.resting)

    def destroy_watch(self, watch: Watch) -> None:
        """A stand-in goes with the last watch it stands in for."""
