# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes made directly to SOURCE, behind the mount: read by fanotify(7), and told in order.

To tell a change is to call the hook for it (engine.hooks), as requests do.  fs.mount has one
Behind if it is asked for.  fs.fanotify reads the records, fs.retelling tells them, and
fs.forgetting makes the kernel forget what was changed.

The daemon's own changes come back as records, too: as echoes.  Echoes are dropped, but the place
of an echo in the queue shows what others did before.  So a request that changed a watched name
reads the queue up to its own echo, and tells the others' changes before its own (fs.in_order).
So changes of names are told in the order in which they happened in SOURCE.  If nobody watches
the name, echoes are read many at a time.

Invariants
    Nothing here waits for the kernel or for a program.  All of it runs in the serving thread,
        except for a thread of fs.forgetting.
    Others' changes take turns with requests: TURN_SECONDS at a time.  A request tells others'
        changes for at most CATCH_UP_SECONDS before its own.  If that is not enough to keep the
        order of a name, all queues get IN_Q_OVERFLOW, as when the kernel's queue was full.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable

import trio

from fusenotify.engine import core
from fusenotify.fs.fanotify import (
    FAN_ONDIR,
    FAN_Q_OVERFLOW,
    NAMES,
    Fanotify,
    Record,
    why_not_heard,
)
from fusenotify.fs.forgetting import Forgetting
from fusenotify.fs.in_order import HooksInOrder, held
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.marks import Marks
from fusenotify.fs.pending import Pending
from fusenotify.fs.processes import process_behind
from fusenotify.fs.retelling import Retelling
from fusenotify.fs.whereabouts import Unexplained, Whereabouts
from fusenotify.heard import ALL, Heard

log = logging.getLogger(__name__)

TURN_SECONDS = 1e-3
CATCH_UP_SECONDS = 20e-3
# The pause after a read that had only echoes; the pause before names are compared again; for
# how long no record is waited for after one that did not come.
_ECHO_SECONDS = 5e-3
_SETTLE_SECONDS = 2e-3
_NO_WAIT_SECONDS = 1.0
# How many records are told between two looks at the clock.
_RECORDS_AT_A_TIME = 32


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
        self._whereabouts.more = self._read_all  # type: ignore[method-assign]
        self.forgetting = Forgetting()
        self.marks = Marks(kind == ALL, self._fanotify, inodes, hooks.core)
        self._retelling = Retelling(
            inodes, hooks, self._whereabouts, self._pending, self.forgetting, self.marks
        )
        self.place, self.told = self._whereabouts.place, self._retelling.own
        self._overflows = 0
        self._heard: set[int] = set()
        self.why_not = ""
        self._unexplained: Record | None = None
        self._waited: Record | None = None
        self._waits_until = self._no_wait_before = 0.0
        self._sleep = trio.CancelScope()
        self._settles = False
        self._tree_roots = hooks.core.trees.roots
        try:
            self._hear(inodes.device, inodes.root.fd)
        except OSError:
            self.close()
            raise
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
        refused = self.marks.refused
        return Heard(
            self.kind,
            self.kind,
            f"{refused} marks could not be had" if refused else self.why_not,
            self.marks.number,
            self._fanotify.read_in_all,
            self._fanotify.own,
            self._retelling.told,
            self._overflows,
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
        if not os.geteuid():
            self._whereabouts.anchor(device, fd)
        self._heard.add(device)

    def _watched(self, inode: Inode) -> None:
        self.marks.watched(inode)
        self._whereabouts.moved()  # other directories are of interest now

    # What requests need.

    def catch_up(self, name: bytes, other: bytes) -> Record | None:
        """Tell others' changes that came before our own change of a name, or of two names.

        Our change was just made.  Returns its echo, which says what was changed, if others may
        have changed the name between our lookup and our change; otherwise None.
        """
        self._read_all()
        pending = self._pending
        if not pending.foreign:
            pending.clear()
            return None
        before = pending.echo(name)
        echo = None if before < 0 else pending.at(before)
        end = pending.appended if before < 0 else pending.taken + before + 1
        if not self._tell_now(end) and (pending.has(name) or pending.has(other)):
            self._lose()
        return echo

    def changed(self, echo: Record | None, given: core.Inode) -> core.Inode | None:
        """Return the object that a request changed, by its echo; None if the object is gone."""
        return self._whereabouts.changed(echo, given)

    def came_back(self, echo: Record | None, given: core.Inode) -> core.Inode:
        """Return the other object of an exchange, by the echo of the first."""
        half = None if echo is None else self._pending.other_half(echo)
        return self.changed(half, given) or given

    def before_naming(self, parent: Inode, name: bytes, inode: Inode) -> bool:
        """Tell others' changes before a directory becomes known by a name that they gave it.

        From then on, records of its entries are told with that name.  Returns whether anything
        was told; then the name may belong to another object now.
        """
        self.marks.named(inode)
        pending = self._pending
        if not self._tree_roots or self._hooks.telling:
            return False
        self._read_all()
        if not pending.foreign:
            return False
        # If a request created the directory, later changes are told later.
        before = pending.echo(name, self._whereabouts.handle_of(parent))
        if not before:
            return False
        with held(inode, parent):
            self._tell_now(pending.appended if before < 0 else pending.taken + before)
        return True

    def _tell_now(self, end: int) -> bool:
        """Tell records up to number end while a program waits; return whether time sufficed."""
        actor = self._core.actor
        until = time.perf_counter() + CATCH_UP_SECONDS
        in_time = True
        while in_time and not self._tell(end, until):
            in_time = time.perf_counter() < until
            os.sched_yield()
            self._read_all()
        self._core.actor = actor
        self._settles = True
        self._sleep.cancel()
        return in_time

    # What the mount needs.

    async def run(self) -> None:
        """Read and tell records for ever."""
        async with trio.open_nursery() as helpers:
            helpers.start_soon(self.forgetting.run)
            while True:
                if not self._pending and not self.forgetting.forgets_all:
                    seconds = _SETTLE_SECONDS if self._settles else math.inf
                    with trio.move_on_after(seconds) as self._sleep:
                        await trio.lowlevel.wait_readable(self._fanotify.fd)
                try:
                    only_echoes = self._turn()
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
        while self._fanotify.read_in_all < enough and self._read():
            pass
        until = self._pending.appended
        while self._pending.taken < until:
            await self._tell_in_turns()
        while self._settle():
            await trio.sleep(_SETTLE_SECONDS)
            self._read_all()
            while self._pending:
                await self._tell_in_turns()
        while self.forgetting.forgets_all:
            await trio.sleep(_SETTLE_SECONDS)
        self.forgetting.flush()
        await self.forgetting.done()

    # Reading and telling.

    async def _tell_in_turns(self) -> None:
        if self._tell(self._pending.taken + _RECORDS_AT_A_TIME):
            await trio.lowlevel.checkpoint()
        else:  # a record that explains the next one is still to come
            await trio.sleep(_SETTLE_SECONDS)
            self._read_all()

    def _turn(self) -> bool:
        """Read and tell for a while; return whether there were only echoes."""
        self._core.actor = None
        taken = self._read()
        if self.forgetting.forgets_all:
            self.forgetting.some()
        if not self._pending.foreign:
            self._pending.clear()
            if not taken:
                self._settles = self._settle()
            return taken > 0
        until = time.perf_counter() + TURN_SECONDS
        self._settles = True
        # If a record waits for another one that explains it, there is time until the next turn.
        end = self._pending.appended
        return not self._tell(end, until) and time.perf_counter() < until

    def _settle(self) -> bool:
        """Compare names with what was told; return whether another comparison is needed."""
        self._hooks.telling = True
        try:
            return self._retelling.settle()
        finally:
            self._hooks.telling = False
            self.forgetting.flush()

    def _read(self) -> int:
        """Read records once; return how many bytes were read."""
        length = self._fanotify.read()
        if length:
            append = self._pending.append
            for record in self._fanotify.records(length, self._wanted):
                append(record)
        return length

    def _read_all(self) -> bool:
        """Read all queued records; return whether there were any."""
        some = False
        while self._read():
            some = True
        return some

    def _wanted(self, device: int, ino: int, mask: int) -> bool:
        """Return whether a record about this object may be of interest."""
        if self._tree_roots or self._inodes.with_number(device, ino) is not None:
            return True
        # A record about a directory itself is of interest to its parent, too.
        return mask & (FAN_ONDIR | NAMES) == FAN_ONDIR and self.marks.watches

    def _tell(self, end: int, until: float = math.inf) -> bool:
        """Tell records until end were taken in all, or a time has come; return whether all were.

        It also returns False if one waits for a record that explains it.
        """
        self._hooks.telling = True
        try:
            return self._tell_some(end, until)
        finally:
            self._hooks.telling = False
            self.forgetting.flush()

    def _tell_some(self, end: int, until: float) -> bool:
        pending, told = self._pending, 0
        while pending and pending.taken < end:
            told += 1
            if not told % _RECORDS_AT_A_TIME and time.perf_counter() > until:
                return False
            record = pending.pop()
            if record.mask & FAN_Q_OVERFLOW:
                self._lose()
                return True
            if record.mask:
                if not pending:  # the second record of an exchange may just have come
                    self._read_all()
                self._core.actor = process_behind(record.pid, self._core)
                try:
                    while (unexplained := self._not_told(record)) is not None:
                        if self._is_to_wait(record, unexplained):
                            pending.push(record)
                            return False
                except OSError:
                    log.exception("what was done behind the mount cannot be told")
                    self._lose()
                    return True
            if record.behind:
                pending.push(*record.behind)
                record.behind = ()
        return True

    def _not_told(self, record: Record) -> Unexplained | None:
        """Tell a record; return why it cannot be told yet, or None."""
        try:
            self._retelling.tell(record, waited=self._waited is record)
        except Unexplained as unexplained:
            return unexplained
        return None

    def _is_to_wait(self, record: Record, unexplained: Unexplained) -> bool:
        """Return whether the record that explains this one may still come.

        After one that did not come there is no wait for a while: others must not be held up.
        """
        now = time.perf_counter()
        if self._unexplained is not record:
            waits = not unexplained.handle or now >= self._no_wait_before
            self._unexplained, self._waits_until = record, now + unexplained.seconds * waits
        if now < self._waits_until:
            return True
        self._unexplained, self._waited = None, record
        if unexplained.handle:
            self._whereabouts.is_unheard(unexplained.handle)
            if now >= self._no_wait_before:
                self._no_wait_before = now + _NO_WAIT_SECONDS
        return False

    def _lose(self) -> None:
        """Handle lost records: tell all queues, and make the kernel forget everything."""
        self._overflows += 1
        self._pending.clear()
        self._retelling.forget_told()
        self._core.actor = None
        self._hooks.lost()
        self.forgetting.all(self._inodes)
