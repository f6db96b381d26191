# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that have to wait: in turn, user by user, while all others are answered.

If the serving thread would sleep in a call, fs.requests has the call made here: it is
repeated until SOURCE does it at once, or it is made in another thread.  fs.mount ends
all waiting.

Invariants
    At most SHARE requests of one user, and MOST in all, are under way.  Further
        ones wait, and users take turns.
    A request whose program was killed ends; only fsync(2) goes on, as on Linux.
        A thread that still works for it keeps its place, and undoes the result.
    No thread acts in a user's name, since the umask is that of the process.
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
# How many more requests may wait: of one user, and of all users.  When WAITING_MANY wait, each user
# may have only SHARE.  Each request takes a few KiB, and one of a process's 65,530 mappings for the
# buffer into which pyfuse3 read it.
WAITING_SHARE = 4000
WAITING_MANY = 40_000
WAITING_MOST = 50_000

# For brief_places(): one request per so many descriptors, and at most so many requests.
_BRIEF_ONE_IN = 64
_MOST_BRIEF = 16

# The first and the longest pause before a call is repeated, in seconds.
_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.25
# How often a request checks whether its program was killed, in seconds.
_LOOK = 1.0

_T = TypeVar("_T")


class Obstacle(Exception):
    """A reason for which a request has to wait; each subclass is one."""


class Leased(Obstacle):
    """An open(2) has to wait for a lease."""


class SleepingOpen(Obstacle):
    """An open(2) may sleep.  held is an O_PATH descriptor of the file, which has to be closed."""

    def __init__(self, held: int, flags: int) -> None:
        super().__init__()
        self.held = held
        self.flags = flags

    def open(self, held: int) -> int:
        """Open the object of a descriptor; return the new one.  Raises OSError."""
        return os.open(path_of(held), self.flags)


def brief_places(limit: int) -> int:
    """Return how many requests at a time may have two descriptors that count for no user.

    limit is how many descriptors the process may have.
    """
    return min(max(limit // _BRIEF_ONE_IN, 1), _MOST_BRIEF)


class Turns:
    """The places of the requests of a mount that may take long, by user.

    brief is the result of brief_places().
    """

    def __init__(self, brief: int = 1) -> None:
        self._free = MOST
        self._taken: Counter[int] = Counter()  # by uid
        # By uid; the user whose turn is next comes first.  A request's event is set when it gets
        # its place.
        self._waiting: dict[int, deque[trio.Event]] = {}
        self._waiting_count = 0
        self._threads = trio.CapacityLimiter(MOST)
        self._ended = trio.Event()
        self.brief = trio.CapacityLimiter(brief)

    def end(self) -> None:
        """Make all waiting requests fail now, except those that must wait for a thread."""
        self._ended.set()
        for places in self._waiting.values():
            for place in places:
                place.set()

    async def until_possible(self, uid: int, pid: int, attempt: Callable[[], _T]) -> _T:
        """Call attempt until it does not raise Leased; return its result.

        Raises OSError: EINTR if the program was killed, ECONNABORTED after end(),
        EAGAIN if too many requests of the user wait.
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
        """Wait for work, which end() cancels.  Raises OSError as until_possible()."""
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
        """Call function in a thread, wait until it is done in any case, and return its result.

        Raises OSError (EAGAIN) if too many requests of the user wait, and what
        function raises.
        """
        async with self.place(uid, 0):
            return await self.thread(function)

    async def thread(self, function: Callable[[], _T]) -> _T:
        """Call function in a thread.  The caller has a place.  Raises what function raises."""
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
        """Return call(held), made in a thread, which also closes the descriptor held.

        If the request ends first, undo is called with the result later.  ended is called
        when the thread has ended, or if there was none.

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
            # When the daemon ends, it does not wait for threads.
            await trio.to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)
        except RuntimeError:  # no thread can be started; a system task must not fail
            work.give_up()
        finally:
            self._leave(uid)
            ended()
            work.done.set()

    # Places.

    @asynccontextmanager
    async def place(self, uid: int, pid: int) -> AsyncIterator[None]:
        """Wait for a place of a user, and keep it during the with block.

        Many requests may wait here, so none may hold a descriptor while it does.

        Raises OSError as until_possible(); if pid is 0, not for a killed program.
        """
        await self._enter(uid, pid)
        try:
            yield
        finally:
            self._leave(uid)

    async def _enter(self, uid: int, pid: int) -> None:
        """Wait for a place of a user."""
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
                pass  # places are not counted any more
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
            # Few users have all their places, so this is one of the first users, or none.
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
        """Raise OSError if a request need not wait any longer."""
        if self._ended.is_set():
            raise OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
        if is_killed(pid):
            raise OSError(errno.EINTR, os.strerror(errno.EINTR))


class _Work(Generic[_T]):
    """A call in a thread, for Turns.unless_killed()."""

    def __init__(self, held: int, call: Callable[[int], _T], undo: Callable[[_T], object]) -> None:
        self.done = trio.Event()
        self._held = held
        self._call = call
        self._undo = undo
        self._lock = threading.Lock()
        self._is_left = False
        # The result, once there is one.
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
        """Make result() raise EAGAIN, since no thread could be started."""
        os.close(self._held)
        self._error = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def leave(self) -> None:
        """Undo the call, now or when it has returned, since nobody waits for it any more."""
        with self._lock:
            self._is_left = True
            for result in self._results:
                self._undo(result)

    def result(self) -> _T:
        """Return the call's result, or raise its exception."""
        if self._error is not None:
            raise self._error
        return self._results[0]
