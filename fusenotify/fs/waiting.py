# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that have to wait: in turn, user by user, while all others are answered.

Where the serving thread would sleep in a call, fs.requests has it done here:
tried again until SOURCE does it at once, or in another thread.  fs.mount ends it.

Invariants
    SHARE requests of one user, and MOST in all, are under way; those beyond
        wait, and the users have turns.
    A request whose program was killed ends, but for fsync(2), which Linux, too,
        goes on with.  A thread that still does something for it keeps its place,
        and undoes what came of it.
    No thread does anything in a user's name: the umask is the whole process's.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

import trio

from fusenotify.fs.processes import is_killed
from fusenotify.fs.syscalls import path_of

MOST = 500
SHARE = 100
# How many more may wait, of one user, of all until only SHARE of each are let in, and in all.
# Each takes a few KiB, and one of a process's 65,530 mappings for what pyfuse3 read it into.
WAITING_SHARE = 4000
WAITING_MANY = 40_000
WAITING_MOST = 50_000

# One request in so many descriptors, and how many at most, for brief_places().
_BRIEF_ONE_IN = 64
_MOST_BRIEF = 16

# How long SOURCE is left alone before it is tried again, in seconds: at first, at last.
_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.25
# How often a request looks whether its program was killed, in seconds.
_LOOK = 1.0

_T = TypeVar("_T")


class Obstacle(Exception):
    """What a request waits for before it is done: each kind says what."""


class Leased(Obstacle):
    """An open(2) that a lease holds up."""


class SleepingOpen(Obstacle):
    """An open(2) that may sleep: held is an O_PATH descriptor for it to use and to close."""

    def __init__(self, held: int, flags: int) -> None:
        super().__init__()
        self.held = held
        self.flags = flags

    def open(self, held: int) -> int:
        """Open the object of a descriptor; return the new one.  Raises OSError."""
        return os.open(path_of(held), self.flags)


def brief_places(limit: int) -> int:
    """Return how many requests at a time may have two descriptors that count for no user.

    limit is how many descriptors there may be.
    """
    return min(max(limit // _BRIEF_ONE_IN, 1), _MOST_BRIEF)


class Turns:
    """What the users of a mount have under way that may take long.

    brief is what brief_places() says.
    """

    def __init__(self, brief: int = 1) -> None:
        self._free = MOST
        self._taken: Counter[int] = Counter()  # by uid
        # By uid, whose turn is next in front.  A request's event comes with its place.
        self._waiting: dict[int, deque[trio.Event]] = {}
        self._waiting_count = 0
        self._threads = trio.CapacityLimiter(MOST)
        self._ended = trio.Event()
        self.brief = trio.CapacityLimiter(brief)

    def end(self) -> None:
        """Make all that waits, but for threads that must be waited for, fail now."""
        self._ended.set()
        for places in self._waiting.values():
            for place in places:
                place.set()

    async def until_possible(self, uid: int, pid: int, attempt: Callable[[], _T]) -> _T:
        """Call attempt until it does not raise Leased; return what it returns.

        Raises OSError: EINTR where the program was killed, ECONNABORTED at the
        end, EAGAIN where too many requests of the user wait.
        """
        async with self.place(uid, pid):
            pause = _FIRST_PAUSE
            while True:
                with trio.move_on_after(pause):
                    await self._ended.wait()
                self._check(pid)
                with suppress(Leased):
                    return attempt()
                pause = min(2 * pause, _LAST_PAUSE)

    async def until_done(self, uid: int, pid: int, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for work, which is cancelled at the end.  Raises OSError as until_possible()."""
        async with self.place(uid, pid):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._at_end, nursery.cancel_scope.cancel)
                await work()
                nursery.cancel_scope.cancel()
            self._check(pid)

    async def _at_end(self, action: Callable[[], None]) -> None:
        await self._ended.wait()
        action()

    async def in_thread(self, uid: int, function: Callable[[], _T]) -> _T:
        """Call function in a thread, and wait until it is done whatever happens.

        Raises OSError, EAGAIN where too many requests of the user wait, and
        what function raises.
        """
        async with self.place(uid, 0):
            return await self.thread(function)

    async def thread(self, function: Callable[[], _T]) -> _T:
        """Call function in a thread for who has a place already.  Raises what function raises."""
        return await trio.to_thread.run_sync(function, limiter=self._threads)

    async def unless_killed(
        self,
        uid: int,
        pid: int,
        held: int,
        call: Callable[[int], _T],
        undo: Callable[[_T], object],
        ended: Callable[[], object],
    ) -> _T:
        """Make a call with a descriptor in a thread, which closes it; return what it returns.

        Where nobody waits for that any more, it is undone when it comes.  ended is
        called when the thread has ended, or none was had.

        Raises OSError, also as until_possible(), and what the call raises.
        """
        try:
            await self._enter(uid, pid)
        except BaseException:
            os.close(held)
            ended()
            raise
        work = _Work(held, call, undo)
        trio.lowlevel.spawn_system_task(self._work, uid, work, ended)
        try:
            while not work.done.is_set():
                self._check(pid)
                with trio.move_on_after(_LOOK):
                    await work.done.wait()
        except BaseException:
            work.leave()
            raise
        return work.result()

    async def _work(self, uid: int, work: _Work[Any], ended: Callable[[], object]) -> None:
        try:
            # At the end of the daemon no thread is waited for.
            await trio.to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)
        except RuntimeError:  # no thread can be had: a system task must not fail
            work.give_up()
        finally:
            self._leave(uid)
            ended()
            work.done.set()

    # Places.

    @asynccontextmanager
    async def place(self, uid: int, pid: int) -> AsyncIterator[None]:
        """Wait for a place of a user's, and have it in the block.

        What a request holds while it waits for one, many may hold: no descriptor.

        Raises OSError as until_possible(); where pid is 0 not for a killed program.
        """
        await self._enter(uid, pid)
        try:
            yield
        finally:
            self._leave(uid)

    async def _enter(self, uid: int, pid: int) -> None:
        """Wait for a place of a user's."""
        queue = self._waiting.get(uid)
        if queue is None and self._free and self._taken[uid] < SHARE:
            self._take(uid)
            return
        if queue is None:
            queue = deque()
        most = SHARE if self._waiting_count >= WAITING_MANY else WAITING_SHARE
        if len(queue) >= most or self._waiting_count >= WAITING_MOST:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._waiting[uid] = queue
        place = trio.Event()
        queue.append(place)
        self._waiting_count += 1
        try:
            while not place.is_set():
                with trio.move_on_after(_LOOK):
                    await place.wait()
                self._check(pid)
        except BaseException:
            if self._ended.is_set():
                pass  # nobody counts any more
            elif place.is_set():
                self._leave(uid)
            else:
                self._waiting_count -= 1
                queue.remove(place)
                if not queue:
                    del self._waiting[uid]
            raise

    def _take(self, uid: int) -> None:
        self._free -= 1
        self._taken[uid] += 1

    def _leave(self, uid: int) -> None:
        self._free += 1
        self._taken[uid] -= 1
        if not self._taken[uid]:
            del self._taken[uid]
        while self._free:
            # Few have all their places: the first one or two that wait, or nobody.
            turn = next((user for user in self._waiting if self._taken[user] < SHARE), None)
            if turn is None:
                return
            queue = self._waiting.pop(turn)
            self._waiting_count -= 1
            self._take(turn)
            queue.popleft().set()
            if queue:
                self._waiting[turn] = queue  # behind the others

    def _check(self, pid: int) -> None:
        """Raise OSError where a request need not wait any longer."""
        if self._ended.is_set():
            raise OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
        if is_killed(pid):
            raise OSError(errno.EINTR, os.strerror(errno.EINTR))


class _Work(Generic[_T]):
    """A call in a thread, as of Turns.unless_killed()."""

    def __init__(self, held: int, call: Callable[[int], _T], undo: Callable[[_T], object]) -> None:
        self.done = trio.Event()
        self._held = held
        self._call = call
        self._undo = undo
        self._lock = threading.Lock()
        self._is_left = False
        # What was returned, once something was.
        self._results: list[_T] = []
        self._error: Exception | None = None

    def __call__(self) -> None:
        """Make the call; the thread's part."""
        try:
            result = self._call(self._held)
        except Exception as error:
            self._error = error
            return
        finally:
            os.close(self._held)
        with self._lock:
            if not self._is_left:
                self._results.append(result)
                return
        self._undo(result)

    def give_up(self) -> None:
        """It did not begin, and does not."""
        os.close(self._held)
        self._error = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def leave(self) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._is_left = True
            for result in self._results:
                self._undo(result)

    def result(self) -> _T:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]
