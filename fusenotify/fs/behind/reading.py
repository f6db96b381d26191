# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the records of fanotify, and have them told, some at a time.

behind.listening decides when.  behind.fanotify reads the records, behind.pending keeps them
until behind.retelling tells them.

Invariants
    What one turn takes is limited in processor time.
    After a loss, all queues are told, and the engine's directories are where they are now.
"""

from __future__ import annotations

import logging
import math
import time

from fusenotify.fs.behind.fanotify import FAN_ONDIR, FAN_Q_OVERFLOW, FULL, NAMES, Fanotify, Record
from fusenotify.fs.behind.forgetting import Forgetting
from fusenotify.fs.behind.in_order import HooksInOrder, telling
from fusenotify.fs.behind.marks import Marks
from fusenotify.fs.behind.merged import OutOfOrder
from fusenotify.fs.behind.pending import Pending
from fusenotify.fs.behind.retelling import Retelling
from fusenotify.fs.behind.whereabouts import Unexplained, Whereabouts
from fusenotify.fs.inodes import Inodes
from fusenotify.fs.processes import process_behind

log = logging.getLogger(__name__)

# Of processor time.
TURN_SECONDS = 1e-3
# For how long no record is waited for after one that did not come.
_NO_WAIT_SECONDS = 10.0
# How many records are told between two looks at the clock.
RECORDS_AT_A_TIME = 32


class Reading:
    """Reads records into pending, and has retelling tell them.

    overflows counts losses.  settles says that names are to be compared with what was told.
    """

    def __init__(
        self,
        inodes: Inodes,
        hooks: HooksInOrder,
        fanotify: Fanotify,
        pending: Pending,
        whereabouts: Whereabouts,
        retelling: Retelling,
        forgetting: Forgetting,
        marks: Marks,
    ) -> None:
        self._inodes = inodes
        self._hooks = hooks
        self._core = hooks.core
        self._fanotify = fanotify
        self._pending = pending
        self._whereabouts = whereabouts
        self._retelling = retelling
        self._forgetting = forgetting
        self._marks = marks
        self._tree_roots = hooks.core.trees.roots
        self.overflows = 0
        self.settles = False
        self._unexplained: Record | None = None
        self._waited: Record | None = None
        self._waits_until = self._no_wait_before = 0.0

    def turn(self) -> bool:
        """Read and tell for a while; return whether there were only echoes."""
        self._core.actor = None
        taken = self.read(drop_echoes=True)
        if self._forgetting.forgets_all:
            self._forgetting.some()
        if not self._pending.foreign:
            self._pending.clear()
            if not taken:
                self.settles = self.settle()
            return taken > 0
        until = time.thread_time() + TURN_SECONDS
        self.settles = True
        # If a record waits for another one that explains it, there is time until the next turn.
        return not self.tell(math.inf, until) and time.thread_time() < until

    def settle(self) -> bool:
        """Compare names with what was told; return whether another comparison is needed."""
        self._hooks.telling = True
        try:
            return self._retelling.settle()
        except OutOfOrder:
            self.lose()
            return True
        finally:
            self._hooks.telling = False
            self._forgetting.flush()

    def read(self, *, drop_echoes: bool = False) -> int:
        """Read records once; return how many bytes were read.

        drop_echoes says that pending may stay empty if all of them are echoes.
        """
        fanotify, pending = self._fanotify, self._pending
        length = fanotify.read()
        are_dropped = drop_echoes and not pending and length <= FULL
        if not (are_dropped and fanotify.has_only_echoes(length)):
            for record in fanotify.records(length, self._wanted):
                pending.append(record)
        return length

    def read_all(self, *, drop_echoes: bool = False) -> bool:
        """Read all records that are queued now; return whether there were any."""
        some = length = self.read(drop_echoes=drop_echoes)
        while length > FULL:  # a shorter read has emptied the queue; others may go on filling it
            length = self.read()
        return some > 0

    def _wanted(self, device: int, ino: int, mask: int) -> bool:
        """Return whether a record about this object may be of interest."""
        if self._tree_roots or self._inodes.with_number(device, ino) is not None:
            return True
        # A record about a directory itself is of interest to its parent, too.
        return mask & (FAN_ONDIR | NAMES) == FAN_ONDIR and self._marks.watches

    def tell(self, end: float, until: float = math.inf) -> bool:
        """Tell records up to number end, or until a time has come; return whether all were told.

        until is a time of this thread's processor time, so that a daemon that does not get a
        processor loses nothing.  It also returns False if one waits for a record that explains
        it.
        """
        self._hooks.telling = True
        try:
            return self._tell_some(end, until)
        finally:
            self._hooks.telling = False
            self._forgetting.flush()

    def _tell_some(self, end: float, until: float) -> bool:
        pending, told = self._pending, 0
        while pending and pending.next <= end:
            told += 1
            if not told % RECORDS_AT_A_TIME and time.thread_time() > until:
                return False
            record = pending.pop()
            if record.mask & FAN_Q_OVERFLOW:
                self.lose()
                return True
            if not record.taken:
                if not pending:  # the second record of an exchange may just have come
                    self.read_all()
                self._core.actor = process_behind(record.pid, self._core)
                try:
                    while (unexplained := self._not_told(record)) is not None:
                        if self._is_to_wait(record, unexplained):
                            pending.push(record)
                            return False
                except OutOfOrder:  # as many as users like: status counts them, the log has none
                    self.lose()
                    return True
                except OSError:
                    log.exception("what was done behind the mount cannot be told")
                    self.lose()
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

        Raises OutOfOrder if the place of a directory will never be known.
        """
        now = time.perf_counter()
        if self._unexplained is not record:
            waits = not unexplained.handle or now >= self._no_wait_before
            self._unexplained, self._waits_until = record, now + unexplained.seconds * waits
        if now < self._waits_until:
            return True
        self._unexplained, self._waited = None, record
        if unexplained.handle:
            if now >= self._no_wait_before:
                self._no_wait_before = now + _NO_WAIT_SECONDS
            raise OutOfOrder("a directory is gone, and no record says from where")
        return False

    def lose(self) -> None:
        """Handle lost records: tell all queues, and make the kernel forget everything."""
        self.overflows += 1
        self._pending.clear()
        with telling(self._hooks):
            self._retelling.forget_told()
        self._core.actor = None
        self._hooks.lost()
        self._forgetting.all(self._inodes)
