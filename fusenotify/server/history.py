# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests about the journal: for cursors, and for the events since a cursor.

server.session passes requests on; history.journal keeps the changes, and history.reading
reads them, in a thread.

Invariants
    A cursor that a client gets is after entries that are written, so it outlives the daemon.
    A user other than root and the daemon's user sees a name only if the user may, at the
        time of the request, read its directory and search all directories above.
    However many requests such a user makes, only one thread at a time reads for them, in
        the user's share of time (engine.time_share).
"""

from __future__ import annotations

import contextlib
import errno

import trio

from fusenotify.bits import IN_MOVED_FROM, IN_MOVED_TO, IN_Q_OVERFLOW
from fusenotify.credentials import Credentials
from fusenotify.engine.time_share import TimeShare
from fusenotify.history.cursors import Cursor
from fusenotify.history.entries import Entry
from fusenotify.history.journal import Journal
from fusenotify.history.reading import Reading, half
from fusenotify.history.store import Store
from fusenotify.protocol.messages import MAX_READ, Past, Since
from fusenotify.protocol.past import BEGINNING, PastEvent
from fusenotify.protocol.status import JournalStatus
from fusenotify.server.deadlines import deadline_of
from fusenotify.server.peer import is_privileged
from fusenotify.server.tree import Tree
from fusenotify.server.turns import Turns

# How many users' shares are remembered, and how many bytes of directories in a request's verdicts.
_MOST_USERS = 1000
_MOST_VERDICT_BYTES = 4 * 1024 * 1024


class _Share:
    """A user's share of time, and a lock that only one of the user's requests can hold."""

    def __init__(self) -> None:
        self.door = trio.Lock()
        self.time = TimeShare()


class Pending:
    """A request that waits for changes until cancel() is called."""

    def __init__(self, history: History) -> None:
        self.cancelled = False
        self._history = history

    def cancel(self) -> None:
        """End the request."""
        self.cancelled = True
        self._history.wake()


class History:
    """The journal of a mount, for its sessions."""

    def __init__(self, journal: Journal, tree: Tree, turns: Turns) -> None:
        self._journal = journal
        self._store = journal.store
        self._tree = tree
        self._turns = turns
        self._waiting = trio.lowlevel.ParkingLot()
        self._shares: dict[int, _Share] = {}

    def follow(self) -> None:
        """Call wake() in trio's thread, from now on, when entries were written or that failed."""
        token = trio.lowlevel.current_trio_token()

        def tried() -> None:
            with contextlib.suppress(trio.RunFinishedError):  # no request waits any more
                token.run_sync_soon(self.wake, idempotent=True)

        self._journal.on_tried = tried

    def wake(self) -> None:
        """Wake all requests that wait for changes."""
        self._waiting.unpark_all()

    def status(self) -> JournalStatus:
        """Return the status that root and the daemon's user see."""
        failure = self._journal.failure
        return JournalStatus(
            path=self._store.path,
            id=self._store.id,
            oldest=self._store.oldest,
            last=self._store.last,
            size=self._store.used,
            lost=self._journal.lost,
            failure=None if failure is None else failure.strerror,
        )

    async def cursor(self) -> str:
        """Return the place after everything done before this call, once that is written.

        Raises OSError (ENOSPC, EIO) if it cannot be written.
        """
        await self._tree.fence()
        cursor = self._journal.now()
        await self._written(cursor.sequence)
        return str(cursor)

    async def since(self, who: Credentials, request: Since, pending: Pending) -> Past:
        """Return the events since a cursor that a user may see.

        Raises OSError: EINVAL (not a cursor, a size that is too small), ECANCELED, as cursor(),
        and as add_watch for the path.
        """
        deadline = deadline_of(request.timeout)
        if not is_privileged(who):
            with self._tree.resolved(request.path or b"/", who, follow=False, directory=False):
                pass
        cursor = request.cursor
        if cursor == BEGINNING:
            cursor = str(self._store.cursor(0))
        try:
            reading = Reading(self._store, cursor, request.path)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None
        await self._tree.fence()
        await self._written(self._journal.now().sequence)
        room = size = min(request.size, MAX_READ)
        events: list[PastEvent] = []
        visible = _Visible(self._store, self._tree, self._turns, who)
        while True:
            if pending.cancelled:
                raise OSError(errno.ECANCELED, "the request was cancelled")
            entries = await self._read(reading, who)
            if entries is None:
                if events or trio.current_time() >= deadline:
                    return _past(request, events, str(reading.cursor), complete=True)
                with trio.CancelScope(deadline=deadline):
                    await self._more(reading.cursor.sequence, pending)
                visible.forget()
                continue
            for entry in entries:
                event = await visible.event(entry)
                if event is None:
                    continue
                room -= event.size
                if room < 0:
                    if not events:
                        raise OSError(
                            errno.EINVAL, f"the first event takes {event.size} bytes, not {size}"
                        )
                    return _past(request, events, events[-1].cursor, complete=False)
                events.append(event)

    async def _read(self, reading: Reading, who: Credentials) -> list[Entry] | None:
        """Return reading.next(), called in the user's share of time."""
        if is_privileged(who):
            return await trio.to_thread.run_sync(reading.next)
        if len(self._shares) >= _MOST_USERS:
            self._shares = {
                uid: share
                for uid, share in self._shares.items()
                if share.time.wait() or share.door.locked()
            }
        share = self._shares.setdefault(who.uid, _Share())

        def read() -> list[Entry] | None:
            share.time.begin()
            try:
                return reading.next()
            finally:
                share.time.end()

        async with share.door:
            await trio.sleep(share.time.wait())
            return await trio.to_thread.run_sync(read)

    async def _written(self, sequence: int) -> None:
        """Wait until the entry with that number is written.

        Raises OSError if writing had failed before, and failed again.
        """
        while self._store.last < sequence:
            failed_before = self._journal.failure is not None
            self._journal.hurry()
            await self._waiting.park()
            failure = self._journal.failure
            if failed_before and failure is not None:
                text = f"the journal cannot be written: {failure.strerror}"
                raise OSError(failure.errno, text)

    async def _more(self, sequence: int, pending: Pending) -> None:
        """Wait until there is an entry after that number, or the request was cancelled."""
        while self._store.last <= sequence and not pending.cancelled:
            await self._waiting.park()


class _Visible:
    """The entries that a client may see; verdicts on directories are kept until forget()."""

    def __init__(self, store: Store, tree: Tree, turns: Turns, who: Credentials) -> None:
        self._store = store
        self._tree = tree
        self._turns = turns
        self._who = who
        self._sees_all = is_privileged(who)
        self._verdicts: dict[bytes, bool] = {}
        self._bytes = 0

    def forget(self) -> None:
        """Forget all verdicts."""
        self._verdicts.clear()
        self._bytes = 0

    async def event(self, entry: Entry) -> PastEvent | None:
        """Return the event for an entry, with what the client may see; None if that is nothing."""
        if not self._sees_all and not entry.mask & IN_Q_OVERFLOW:
            new = await self._may_see(entry.path)
            old = entry.old_path is not None and await self._may_see(entry.old_path)
            if not (new or old):
                return None
            if entry.old_path is not None and not (new and old):
                entry = half(entry, IN_MOVED_TO if new else IN_MOVED_FROM)
        with_actor = self._sees_all or entry.uid == self._who.uid
        return _message(entry, self._store.cursor(entry.sequence), with_actor)

    async def _may_see(self, path: bytes) -> bool:
        """Return whether the client could watch the directory of a path."""
        directory = path.rpartition(b"/")[0]
        verdict = self._verdicts.get(directory)
        if verdict is None:
            await self._turns.take(self._who)
            try:
                with self._tree.resolved(b"/" + directory, self._who, follow=False, directory=True):
                    verdict = True
            except OSError:
                verdict = False
            self._bytes += len(directory) + 100
            if self._bytes > _MOST_VERDICT_BYTES:
                self.forget()
            self._verdicts[directory] = verdict
        return verdict


def _message(entry: Entry, cursor: Cursor, with_actor: bool) -> PastEvent:
    event = PastEvent(
        cursor=str(cursor),
        sequence=entry.sequence,
        time=entry.time,
        mask=entry.mask,
        path=entry.path,
        old_path=entry.old_path,
        replaced=entry.replaced,
        exchanged=entry.exchanged,
    )
    if entry.reason is not None:
        event.reason, event.since = entry.reason, entry.since
    elif with_actor and entry.uid >= 0:
        event.pid, event.uid, event.gid = entry.pid or None, entry.uid, entry.gid
        event.command = entry.command
    return event


def _past(request: Since, events: list[PastEvent], cursor: str, *, complete: bool) -> Past:
    return Past(id=request.id, events=tuple(events), cursor=cursor, complete=complete)


def required(history: History | None) -> History:
    """Return the history of a mount that has one.

    Raises OSError (EOPNOTSUPP).
    """
    if history is None:
        raise OSError(errno.EOPNOTSUPP, "this mount keeps no journal: mount it with --journal")
    return history
