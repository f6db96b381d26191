# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes made directly to SOURCE, behind the mount: read by fanotify(7), and told in order.

To tell a change is to call the hook for it (engine.hooks), as requests do.  fs.mount has one
Behind if it is asked for.  behind.fanotify and behind.reading read the records,
behind.retelling tells them, and behind.forgetting makes the kernel forget what was changed.

The daemon's own changes come back as records, too: as echoes.  Echoes are dropped, but the place
of an echo in the queue shows what others did before.  So a request that changed a watched name
reads the queue up to its own echo, and tells the others' changes before its own (behind.in_order).
So changes of names are told in the order in which they happened in SOURCE.  If nobody watches
the name, echoes are read many at a time.

Invariants
    Nothing here waits for a program, except for a change of a directory that is under way
        (fanotify.await_records).  All of it runs in the serving thread, except for a thread
        of behind.forgetting.
    What a request finds is newer than the records that are not told yet.  So it makes no
        directory known by another name before all of them are told.
    Others' changes take turns with requests: reading.TURN_SECONDS at a time.  A request tells
        others' changes for at most CATCH_UP_SECONDS before its own.  If that is not enough, all
        queues get IN_Q_OVERFLOW, as when the kernel's queue was full.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable

import trio

from fusenotify.engine import core
from fusenotify.fs.behind.fanotify import Fanotify, Record, why_not_heard
from fusenotify.fs.behind.forgetting import Forgetting
from fusenotify.fs.behind.in_order import HooksInOrder, held
from fusenotify.fs.behind.marks import Marks
from fusenotify.fs.behind.pending import Pending
from fusenotify.fs.behind.reading import RECORDS_AT_A_TIME, Reading
from fusenotify.fs.behind.retelling import Retelling
from fusenotify.fs.behind.whereabouts import Whereabouts
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.heard import ALL, Heard

log = logging.getLogger(__name__)

# Of processor time, so that nothing is lost only because the daemon does not get a processor.
CATCH_UP_SECONDS = 0.5
# The first and the longest pause before another look for a record that explains one, while a
# program waits.
_EXPLAINED_SECONDS, _LONGEST_SECONDS = 0.1e-3, 5e-3
# The pause after a read that had only echoes; the pause before names are compared again.
_ECHO_SECONDS = 5e-3
_SETTLE_SECONDS = 2e-3


class Behind:
    """Reads the changes made to SOURCE behind the mount, and tells them.

    kind is one of heard.KINDS, except OFF.  why_not says why some changes are not heard.

    Raises OSError if fanotify cannot be used.
    """

    def __init__(self, kind: str, inodes: Inodes, hooks: HooksInOrder) -> None:
        self.kind = kind
        self._inodes = inodes
        self._hooks = hooks
        self._core = hooks.core
        self._fanotify = Fanotify()
        self._pending = Pending(os.getpid())
        self._whereabouts = Whereabouts(inodes, hooks.core, self._fanotify, self._pending)
        self.forgetting = Forgetting()
        self.marks = Marks(kind == ALL, self._fanotify, inodes, hooks.core)
        self._retelling = Retelling(
            inodes, hooks, self._whereabouts, self._pending, self.forgetting, self.marks
        )
        self._reading = Reading(
            inodes,
            hooks,
            self._fanotify,
            self._pending,
            self._whereabouts,
            self._retelling,
            self.forgetting,
            self.marks,
        )
        self._whereabouts.more = self._reading.read_all
        self.place, self.other_half = self._whereabouts.place, self._pending.other_half
        self.disputed = False
        self._heard: set[int] = set()
        self.why_not = ""
        self._sleep = trio.CancelScope()
        self._tree_roots = hooks.core.trees.roots
        try:
            self._hear(inodes.device, inodes.root.fd)
        except OSError:
            self.close()
            raise
        self.told, self.removed = self._retelling.own, self._retelling.own_removal
        self.links = self._retelling.links
        hooks.behind = self
        inodes.before_naming = self.before_naming
        inodes.on_watched = self._watched
        inodes.on_let_go = self.marks.let_go

    def close(self) -> None:
        inodes = self._inodes
        inodes.before_naming = inodes.on_watched = inodes.on_let_go = None
        self._fanotify.close()
        self._whereabouts.close()

    def heard(self) -> Heard:
        """Return what was heard until now."""
        return Heard(
            self.kind,
            self.kind,
            self.marks.refused or self.why_not,
            self.marks.number,
            self._fanotify.read_in_all,
            self._fanotify.own,
            self._retelling.told,
            self._reading.overflows,
            self._retelling.mended,
            self.forgetting.attributes + self.forgetting.names,
        )

    def mounted(self) -> Callable[[Inode, bytes], None]:
        """Note that the mount exists; return a function to call with each missing name."""
        self.forgetting.mounted()
        return self.forgetting.absent

    def hears_all(self) -> bool:
        """Add new filesystems of SOURCE, and drop old ones; return whether all are heard."""
        inodes = self._inodes
        roots = {inodes.device: inodes.root.fd} | inodes.submounts.roots()
        for device in self._heard - roots.keys():
            self._heard.remove(device)
            self.marks.forget_filesystem(device)
            self._whereabouts.forget(device)
        self.why_not = ""
        for device in roots.keys() - self._heard:
            try:
                self._hear(device, roots[device])
            except OSError as error:
                self.why_not = f"not all below SOURCE is heard: {why_not_heard(error)}"
                log.warning("changes behind the mount: %s", self.why_not)
        return not self.why_not

    def _hear(self, device: int, fd: int) -> None:
        self._fanotify.know(fd)
        self.marks.filesystem(device, fd)
        if self.marks.is_root:
            self._whereabouts.anchor(device, fd)
        self._heard.add(device)

    def _watched(self, inode: Inode) -> None:
        self.marks.watched(inode)
        self._whereabouts.moved()  # other directories are of interest now

    # What requests need.

    def catch_up(self) -> Record | None:
        """Tell others' changes that came before our own change of a name, or of two names.

        Our change was just made.  Returns its echo, which says what was changed.  If there were
        only echoes, they may not have been decoded, and it returns None.  Sets disputed.
        """
        self._reading.read_all(drop_echoes=True)
        pending = self._pending
        self.disputed = pending.foreign > 0
        echo = pending.own_last()
        if self.disputed:
            self._tell_now(pending.appended if echo is None else echo.number)
        else:
            pending.clear()
        return echo

    def changed(self, echo: Record | None, given: core.Inode) -> core.Inode:
        """Return the object that a request changed, by its echo; a stand-in if it is gone."""
        if echo is None or not self.disputed:
            return given
        return self._whereabouts.changed(echo, given)

    def replaced(
        self, echo: Record, parent: core.Inode, name: bytes, moved: core.Inode
    ) -> core.Inode | None:
        """Return what a rename to a name replaced; a stand-in if it is not known."""
        return self._retelling.replaced(echo, parent, name, moved)

    def before_naming(self, parent: Inode, name: bytes, inode: Inode) -> bool:
        """Tell others' changes before a directory becomes known by a name that they gave it.

        From then on, records of its entries are told with that name.  Returns whether anything
        was told; then the name may belong to another object now.  If no record is about a name
        in parent or a move of the directory, nothing has to be told.
        """
        self.marks.named(inode)
        pending, where = self._pending, self._whereabouts
        if not self._tree_roots or self._hooks.telling:
            return False
        where.await_changes(parent)
        self._reading.read_all()
        if not pending.foreign:
            return False
        moved = where.handle_of(inode)
        moves = moved is not None and pending.first_move(moved) is not None
        if not moves and not pending.concerns(where.handle_of(parent)):
            return False
        with held(inode, parent):
            self._tell_now(pending.appended)
        return True

    def _tell_now(self, end: float) -> None:
        """Tell records up to a number while a program waits; lose them if that takes too long."""
        actor = self._core.actor
        until, pause = time.thread_time() + CATCH_UP_SECONDS, _EXPLAINED_SECONDS
        while not self._reading.tell(end, until):
            if time.thread_time() > until:
                self._reading.lose()
                break
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_SECONDS)
            self._reading.read_all()
        self._core.actor = actor
        self._reading.settles = True
        self._sleep.cancel()

    # What the mount needs.

    async def run(self) -> None:
        """Read and tell records for ever."""
        async with trio.open_nursery() as helpers:
            helpers.start_soon(self.forgetting.run)
            while True:
                if not self._pending and not self.forgetting.forgets_all:
                    seconds = _SETTLE_SECONDS if self._reading.settles else math.inf
                    with trio.move_on_after(seconds) as self._sleep:
                        await trio.lowlevel.wait_readable(self._fanotify.fd)
                try:
                    only_echoes = self._reading.turn()
                except Exception:
                    log.exception("what was done behind the mount cannot be told")
                    only_echoes = False
                if only_echoes:
                    await trio.sleep(_ECHO_SECONDS)
                else:
                    await trio.lowlevel.checkpoint()

    async def fence(self) -> None:
        """Wait until all earlier changes of SOURCE are told, and forgotten by the kernel.

        The records that are queued now are enough, because the kernel queues a record before
        the call that it is about returns.
        """
        enough = self._fanotify.read_in_all + self._fanotify.queued()
        while self._fanotify.read_in_all < enough and self._reading.read():
            pass
        until = self._pending.appended
        while self._pending and self._pending.next <= until:
            await self._tell_in_turns()
        while self._reading.settle():
            await trio.sleep(_SETTLE_SECONDS)
            self._reading.read_all()
            while self._pending:
                await self._tell_in_turns()
        while self.forgetting.forgets_all:
            await trio.sleep(_SETTLE_SECONDS)
        self.forgetting.flush()
        await self.forgetting.done()

    async def _tell_in_turns(self) -> None:
        if self._reading.tell(self._pending.next + RECORDS_AT_A_TIME - 1):
            await trio.lowlevel.checkpoint()
        else:  # a record that explains the next one is still to come
            await trio.sleep(_SETTLE_SECONDS)
            self._reading.read_all()
