# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: a third consumer of the core, which keeps the changes in the whole tree.

It has one tree watch, on the root, and gets changes as a detailed device does
(engine.detailed_device).  A thread writes them to the store (history.store) in batches.

Invariants
    A program that makes a change never waits for the file: entries wait in memory, at most
        MOST_WAITING bytes of them.  Further ones are lost, and a gap says so.
    After each modification there is an entry for it: several modifications of one file are
        merged only while their entry is not in the file yet.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from fusenotify.bits import IN_ISDIR, IN_MODIFY, IN_MOVE, IN_MOVED_FROM, IN_MOVED_TO
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.policy import LINUX_6
from fusenotify.engine.trees import TreeWatch
from fusenotify.engine.watches import Watch, put_watch
from fusenotify.history.bounds import CHANGES
from fusenotify.history.cursors import Cursor
from fusenotify.history.entries import Entry, Reason, gap
from fusenotify.history.store import Store

log = logging.getLogger(__name__)

# How many seconds entries wait for others, so that they are written together.
BATCH_SECONDS = 0.05
# How many bytes of entries may wait.
MOST_WAITING = 64 * 1024 * 1024
# How many entries, and how many bytes of them, a batch may have; it is written and read at once.
_MOST_TOGETHER, _BYTES_TOGETHER = 5000, 1024 * 1024
# The longest path that is kept, in bytes.
LONGEST_PATH = 64 * 1024
# After how many seconds without changes the store records that nothing is missing.
_ALIVE_SECONDS = 60.0
# After how many seconds a failed write is tried again.
_RETRY_SECONDS = 1.0


class Journal:
    """The changes below a directory, from watch() on, in a store.

    mask has the events that are kept.  lost counts the events that gaps stand for.  on_tried is
    called in the journal's thread after each try to write entries; failure is the error of the
    last try, or None.
    """

    def __init__(
        self,
        core: Core,
        store: Store,
        *,
        mask: int = CHANGES,
        batch_seconds: float = BATCH_SECONDS,
        on_tried: Callable[[], None] | None = None,
    ) -> None:
        self.store = store
        self.on_tried = on_tried
        self.lost = 0
        self._core = core
        self._details = core.details
        self._handle = core.init(self, LINUX_6)
        self.mask = mask
        self._batch_seconds = batch_seconds
        self._sequence = store.last
        self._waiting: deque[Entry] = deque()
        # Each is changed by one thread only: the core's, and the journal's own.
        self._kept_bytes = self._written_bytes = 0
        # The files that have an entry for a modification which is not in the file yet, and whose
        # names have belonged to them since.
        self._modified: set[bytes] = set()
        self._moved: Entry | None = None  # the first half of the rename that is under way
        self._gap: Entry | None = None  # the gap that grows with further losses
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closed = False
        # Up to when changes are heard, in ns since 1970; None while they are.
        self._heard_until: int | None = store.opened
        self.failure: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    def watch(self, root: Inode) -> None:
        """Keep changes below root from now on, and write them."""
        self._handle.add_watch(TreeWatch(), root, self.mask)
        self._core.ask_for_details(1)
        self._core.ask_for_processes(1, self.mask)
        self._core.queues.add(self)
        self._heard_until = None
        self._thread.start()

    def ends(self) -> None:
        """Note that the mount ends: from now on, changes may be made behind it."""
        if self._heard_until is None:
            self._heard_until = time.time_ns()

    def close(self) -> None:
        """Write waiting entries, and close the store.  This blocks until it is done."""
        self._handle.destroy()
        self.ends()
        if self._moved is not None:
            self._keep(self._moved)
        if self._thread.is_alive():
            self._core.ask_for_details(-1)
            self._core.ask_for_processes(-1, self.mask)
            self._core.queues.discard(self)
            self._closed = True
            self._hurry.set()
            self._wake.set()
            self._thread.join()
        try:
            self.store.close(self._heard_until if self._kept_bytes == self._written_bytes else None)
        except OSError as error:
            log.warning("%s: %s; the next mount will report a crash", error.filename, error)

    def now(self) -> Cursor:
        """Return the place after the newest entry."""
        return self.store.cursor(self._sequence)

    def hurry(self) -> None:
        """Write waiting entries at once."""
        self._hurry.set()

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
        """Keep a change."""
        if not watch.attached:
            put_watch(watch)
            return
        if not mask & self.mask:  # IN_UNMOUNT
            return
        path = name or b""
        if path.endswith(b"/"):
            return  # the directory above reports it, too
        modified = self._modified
        only_modified = mask & IN_MODIFY and not mask & ~IN_MODIFY & self.mask
        if only_modified:
            # The second check is for a batch that was taken after the first one.
            if path in modified and modified is self._modified:
                return
        elif mask & IN_MOVE and mask & IN_ISDIR:
            self._modified = set()  # the names below belong to other files now
        elif path in modified:
            modified.discard(path)
        moved, self._moved = self._moved, None
        if moved is not None:
            whole = mask & IN_MOVED_TO and cookie == moved.sequence
            if whole:
                moved.mask, moved.path, moved.old_path = mask, path, moved.path
            self._keep(moved)
            if whole:
                return
        entry = Entry(0, self._details.time, mask, path)
        if cookie:
            entry.replaced, entry.exchanged = self._core.replaces, self._core.exchanges
        process = self._details.process(self._core.actor)
        if process is not None:
            entry.pid, entry.uid, entry.gid, entry.command = process[:4]
        if mask & IN_MOVED_FROM and self.mask & IN_MOVED_TO:
            entry.sequence = cookie  # until it gets its number
            self._moved = entry
        elif self._keep(entry) and only_modified:
            modified.add(path)

    def lose(self) -> None:
        """Record that changes were lost before they got here, since the last event there was."""
        last = self._details.time
        self._details.number()
        self._lose(self._details.time, Reason.OVERFLOW, since=last)

    def destroy_watch(self, watch: Watch) -> None:
        """Do nothing: nothing was allocated with the watch."""

    def _keep(self, entry: Entry) -> bool:
        """Number an entry, and append it to those that wait to be written; False if it is lost."""
        size = entry.size
        full = self._kept_bytes - self._written_bytes + size > MOST_WAITING
        if full or size > LONGEST_PATH:
            self._lose(entry.time, Reason.OVERFLOW if full else Reason.PATH)
            return False
        self._gap = None
        self._sequence += 1
        entry.sequence = self._sequence
        self._kept_bytes += size
        self._waiting.append(entry)
        if not self._wake.is_set():
            self._wake.set()
        return True

    def _lose(self, when: int, reason: Reason, since: int | None = None) -> None:
        """Record a loss in a gap; losses that follow each other have a single gap.

        since is the time from which on something may be missing, or None for when.
        """
        self.lost += 1
        missing = self._gap
        if missing is not None and missing.reason is reason:
            missing.time = when
            if missing is self._gap:  # otherwise it may have been written with the earlier time
                return
        self._sequence += 1
        self._gap = gap(self._sequence, when if since is None else since, when, reason)
        self._kept_bytes += self._gap.size
        self._waiting.append(self._gap)
        self._wake.set()

    # The thread.

    def _write(self) -> None:
        self._try(partial(self.store.begin, time.time_ns()))
        while not (self._closed and not self._waiting):
            if not self._wake.wait(_ALIVE_SECONDS):
                self._try(self._keep_alive)
                continue
            self._hurry.wait(self._batch_seconds)
            self._hurry.clear()
            self._wake.clear()
            while batch := self._take():
                if not self._append(batch):
                    return

    def _take(self) -> list[Entry]:
        """Take the oldest waiting entries."""
        batch: list[Entry] = []
        size = 0
        while self._waiting and len(batch) < _MOST_TOGETHER and size < _BYTES_TOGETHER:
            if batch and self._waiting[0].time < batch[-1].time:
                break  # the clock was set back
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        # These are reset after entries are taken and before those are written, so what they
        # contain is not in the file yet.
        self._modified = set()
        self._gap = None
        return batch

    def _append(self, batch: list[Entry]) -> bool:
        """Write entries, trying again and again; return False if the last try at the end fails."""
        while True:
            is_last = self._closed
            if self._try(partial(self._store, batch)):
                break
            if is_last:
                log.warning("%d changes are not in the journal", len(batch) + len(self._waiting))
                return False
            self._hurry.wait(_RETRY_SECONDS)
            self._hurry.clear()
        self._written_bytes += sum([entry.size for entry in batch])
        return True

    def _store(self, batch: list[Entry]) -> None:
        self._look_for_files()
        self.store.append(batch)

    def _keep_alive(self) -> None:
        self._look_for_files()
        # A change that has its time but does not wait yet is younger than a second.
        self.store.keep_alive(time.time_ns() - 10**9)

    def _look_for_files(self) -> None:
        """Open the journal again if somebody has removed or replaced its files."""
        if not self.store.is_there():
            log.warning(
                "%s: the journal was removed or replaced; what follows is kept in the file that "
                "is there now, or in a new one, and cursors from before report a gap",
                os.fsdecode(self.store.path),
            )
            self.store.open_again()

    def _try(self, work: Callable[[], None]) -> bool:
        """Call work, which uses the store; log the first failure, and the next success."""
        failed, self.failure = self.failure, None
        try:
            work()
        except OSError as error:
            self.failure = error
            if failed is None:
                log.warning("%s: %s; changes wait to be written", error.filename, error.strerror)
        else:
            if failed is not None:
                log.warning("the journal can be written again")
        if self.on_tried is not None:
            self.on_tried()
        return self.failure is None
