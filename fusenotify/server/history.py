# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests about the journal: for cursors, and for the events since a cursor.

server.session passes requests on; history.journal keeps the changes, and history.reading
reads them, in a thread.

Invariants
    A cursor that a client gets is after entries that are written, so it outlives the daemon.
    However many requests a user other than root and the daemon's user makes, only one at a
        time reads, judges and has entries in memory, in the user's share of time
        (engine.time_share), and only one at a time is woken.
    Nothing is remembered of a request that waits but its place.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TypeVar

import trio

from fusenotify.bits import IN_CREATE, IN_MOVED_TO
from fusenotify.credentials import Credentials
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.time_share import TimeShare
from fusenotify.history.entries import Entry
from fusenotify.history.journal import Journal
from fusenotify.history.lookups import place_at
from fusenotify.history.reading import Reading
from fusenotify.protocol.messages import Past, Since
from fusenotify.protocol.past import BEGINNING, PastEvent
from fusenotify.protocol.status import JournalStatus
from fusenotify.server.deadlines import deadline_of
from fusenotify.server.peer import is_privileged
from fusenotify.server.tree import Tree
from fusenotify.server.turns import Turns
from fusenotify.server.visible import Visible
from fusenotify.server.wanted import Wanted

T = TypeVar("T")

# How many users' shares are remembered.
_MOST_USERS = 1000
# How many entries are looked at without letting other tasks run.
_TOGETHER = 256
# The most bytes of events in an answer.
_MOST_COLLECTED = 256 * 1024


class _User:
    """What a user's requests have in common: a share of time, a lock, and the waiting ones.

    Only one request of the user at a time holds the door, and has entries in memory.
    """

    def __init__(self) -> None:
        self.door = trio.Lock()
        self.time = TimeShare()
        self.waiting = _Waiting()

    def is_idle(self) -> bool:
        return not (self.door.locked() or self.waiting or self.time.wait())


class _Waiting:
    """Requests that wait for the journal.  In each pass of the scheduler, only one is woken."""

    def __init__(self) -> None:
        self._parked = trio.lowlevel.ParkingLot()
        self._due = 0  # how many are still to be woken
        self._one_is_waking = False

    def __len__(self) -> int:
        return len(self._parked)

    def wake(self) -> None:
        """Wake all requests that wait now, one after the other."""
        self._due = len(self._parked)
        if not self._one_is_waking:
            self._next()

    async def woken(self) -> None:
        """Wait to be woken, possibly without a reason."""
        await self._parked.park()
        self._one_is_waking = False
        self._next()

    def _next(self) -> None:
        if self._due and self._parked:
            self._due -= 1
            self._one_is_waking = True
            self._parked.unpark()


class Pending:
    """A request that may wait until cancel() is called."""

    def __init__(self) -> None:
        self._cancelled = False
        self._scope: trio.CancelScope | None = None

    def cancel(self) -> None:
        """End the request."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    @contextlib.contextmanager
    def cancellable(self) -> Iterator[None]:
        """Return a context manager whose block cancel() ends.

        Raises OSError (ECANCELED).
        """
        with trio.CancelScope() as self._scope:
            if not self._cancelled:
                yield
        self._scope = None
        if self._cancelled:
            raise OSError(errno.ECANCELED, "the request was cancelled")


class History:
    """The journal of a mount, for its sessions."""

    def __init__(self, journal: Journal, tree: Tree, turns: Turns, table: DeviceTable) -> None:
        self.journal = journal
        self.store = journal.store
        self.tree = tree
        self.turns = turns
        self.table = table
        self._users: dict[int, _User] = {}

    def follow(self) -> None:
        """Call wake() in trio's thread, from now on, when entries were written or that failed."""
        token = trio.lowlevel.current_trio_token()

        def tried() -> None:
            with contextlib.suppress(trio.RunFinishedError):  # no request waits any more
                token.run_sync_soon(self.wake, idempotent=True)

        self.journal.on_tried = tried

    def wake(self) -> None:
        """Wake all requests that wait for changes."""
        for user in self._users.values():
            user.waiting.wake()

    def user(self, uid: int) -> _User:
        """Return what a user's requests have in common.

        It is for use at once: when nobody uses it, it may be forgotten.
        """
        found = self._users.get(uid)
        if found is None:
            if len(self._users) >= _MOST_USERS:
                self._users = {uid: user for uid, user in self._users.items() if not user.is_idle()}
            found = self._users[uid] = _User()
        return found

    def status(self) -> JournalStatus:
        """Return the status that root and the daemon's user see."""
        failure = self.journal.failure
        return JournalStatus(
            path=self.store.path,
            id=self.store.id,
            oldest=self.store.oldest,
            last=self.store.last,
            size=self.store.used,
            lost=self.journal.lost,
            failure=None if failure is None else failure.strerror,
        )

    async def cursor(self, who: Credentials, time: int | None = None) -> str:
        """Return the place after everything done before this call, once that is written.

        With a time, in ns since 1970, return the place before the first change that is not older.

        Raises OSError: ENOSPC, EIO if it cannot be written; EINVAL for an impossible time.
        """
        await self.tree.fence()
        cursor = self.journal.now()
        await self.written(cursor.sequence, who)
        if time is not None:
            if not 0 <= time < 1 << 63:
                raise OSError(errno.EINVAL, f"{time} is not a time in ns since 1970")
            cursor = await self.apart(who, partial(place_at, self.store, time))
        return str(cursor)

    async def apart(self, who: Credentials, work: Callable[[], T]) -> T:
        """Return the result of work, which is called in a thread, in the user's share of time."""
        share = self.user(who.uid).time

        def timed() -> T:
            share.begin()
            try:
                return work()
            finally:
                share.end()

        await self.turns.take(who)
        if not is_privileged(who):
            await trio.sleep(share.wait())
        return await trio.to_thread.run_sync(timed)

    async def written(self, sequence: int, who: Credentials) -> None:
        """Wait until the entry with that number is written.

        Raises OSError if writing had failed before, and failed again.
        """
        while self.store.last < sequence:
            failed_before = self.journal.failure is not None
            self.journal.hurry()
            await self.user(who.uid).waiting.woken()
            failure = self.journal.failure
            if failed_before and failure is not None:
                text = f"the journal cannot be written: {failure.strerror}"
                raise OSError(failure.errno, text)


class Asking:
    """One request for the events since a cursor.

    Raises OSError: EINVAL (not a cursor, or not a path from the root), and as add_watch for the
    path.  answer() raises the errors of add_watch for patterns and ignore_self, too.
    """

    def __init__(self, history: History, who: Credentials, request: Since) -> None:
        self._deadline = deadline_of(request.timeout)
        self._history = history
        self._who = who
        self._request = request
        self._privileged = is_privileged(who)
        if not self._privileged and ~history.journal.mask & (IN_CREATE | IN_MOVED_TO):
            raise OSError(
                errno.EACCES,
                "the journal does not keep 'create' and 'moved_to', so it cannot tell what other "
                "users than root and the daemon's may see",
            )
        if not self._privileged:
            path = request.path or b"/"
            with history.tree.resolved(path, who, follow=False, directory=False):
                pass
        cursor = request.cursor
        if cursor == BEGINNING:
            cursor = str(history.store.cursor(0))
        try:
            self._reading = Reading(history.store, cursor, request.path)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None
        self._is_fenced = False

    @property
    def _user(self) -> _User:
        return self._history.user(self._who.uid)

    @contextlib.asynccontextmanager
    async def answer(
        self, pending: Pending, door: trio.Lock, frame_of: Callable[[Past], bytearray]
    ) -> AsyncIterator[bytearray]:
        """Return a context manager that yields the frame of the answer, and holds the door.

        Raises OSError: EINVAL (a size that is too small), ECANCELED, and as History.cursor().
        """
        while True:
            async with door:
                with pending.cancellable():
                    past = await self._collect()
                if past is not None:
                    frame = frame_of(past)
                    del past  # the client may be slow
                    yield frame
                    return
            with pending.cancellable():
                await self._more()

    async def _collect(self) -> Past | None:
        """Return the answer; None if there is nothing yet, and the request may wait."""
        if self._privileged:
            return await self._collected()
        async with self._user.door:
            return await self._collected()

    async def _more(self) -> None:
        """Wait until there may be more, or for as long as the request may wait."""
        store, sequence = self._history.store, self._reading.cursor.sequence
        with trio.CancelScope(deadline=self._deadline):
            while store.last <= sequence:
                await self._user.waiting.woken()

    async def _collected(self) -> Past | None:
        history, request = self._history, self._request
        if not self._is_fenced:
            await history.tree.fence()
            await history.written(history.journal.now().sequence, self._who)
            self._is_fenced = True
        size = min(request.size, _MOST_COLLECTED)
        room = size
        events: list[PastEvent] = []
        time = self._user.time
        wanted = await Wanted.of(request, history.table, self._who)
        apart = self._after_changes
        visible = Visible(history.store, history.tree, history.turns, self._who, time, apart)
        while (entries := await self._read()) is not None:
            for start in range(0, len(entries), _TOGETHER):
                some = await wanted.among(entries[start : start + _TOGETHER])
                await visible.judge(some)
                await self._wait_for_time()
                with self._own_time():
                    for entry in some:
                        event = visible.event(entry)
                        if event is None:
                            continue
                        room -= event.size
                        if room < 0:
                            if not events:
                                raise OSError(
                                    errno.EINVAL,
                                    f"the first event takes {event.size} bytes, not {size}",
                                )
                            return self._answer(events, events[-1].cursor, complete=False)
                        events.append(event)
        if events or trio.current_time() >= self._deadline:
            return self._answer(events, str(self._reading.cursor), complete=True)
        return None

    def _answer(self, events: list[PastEvent], cursor: str, *, complete: bool) -> Past:
        return Past(id=self._request.id, events=tuple(events), cursor=cursor, complete=complete)

    async def _read(self) -> list[Entry] | None:
        """Return what Reading.next() returns, called in a thread."""

        return await self._history.apart(self._who, self._reading.next)

    async def _after_changes(self, work: Callable[[], T]) -> T:
        """Return what apart() returns, called when all changes made until now are written.

        Raises OSError, as History.written().
        """
        history = self._history
        await history.written(history.journal.now().sequence, self._who)
        return await history.apart(self._who, work)

    async def _wait_for_time(self) -> None:
        await self._history.turns.take(self._who)
        if not self._privileged:
            await trio.sleep(self._user.time.wait())

    @contextlib.contextmanager
    def _own_time(self) -> Iterator[None]:
        """Return a context manager whose block, which does not await, takes of the user's time."""
        time = self._user.time
        time.begin()
        try:
            yield
        finally:
            time.end()


def required(history: History | None) -> History:
    """Return the history of a mount that has one.

    Raises OSError (EOPNOTSUPP).
    """
    if history is None:
        raise OSError(errno.EOPNOTSUPP, "this mount keeps no journal: mount it with --journal")
    return history
