# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects that nobody may hold any more, which are removed a few at a time.

fs.inodes puts them here and has the function that removes one.  One FORGET can
free a chain of directories of any length, or a file with thousands of names.  So a
request removes at most TURN of them; a task removes the rest, TURN at a time,
while other requests are answered.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

log = logging.getLogger(__name__)

# How many objects or names are removed before other tasks run; it takes half a millisecond.
TURN = 256

_T = TypeVar("_T")


class Unused(Generic[_T]):
    """A queue of objects that may be unused.

    let_go looks at an object, removes it or a part of it if it is unused, and returns
    whether it has to be called for it again.  It may add other objects.  waiting has the
    objects that it has yet to look at.
    """

    def __init__(self, let_go: Callable[[_T], bool]) -> None:
        self._let_go = let_go
        self.waiting: deque[_T] = deque()
        self._runs = False

    def add(self, candidate: _T) -> None:
        """Look at candidate later: in the next turn, or soon if many are waiting."""
        self.waiting.append(candidate)
        if len(self.waiting) > TURN:
            self._go_on()

    def turn(self) -> None:
        """Remove the next TURN objects or names; a task does the rest if there are more."""
        queue = self.waiting
        for _ in range(TURN):
            if not queue:
                return
            candidate = queue.popleft()
            try:
                more = self._let_go(candidate)
            except Exception:  # nobody waits for an answer, and the rest has to be done
                log.exception("an object cannot be removed")
                continue
            if more:
                queue.appendleft(candidate)
        if queue:
            self._go_on()

    def _go_on(self) -> None:
        if self._runs or not _in_trio():
            return  # outside trio, after the mount's end, the next turn goes on
        self._runs = True
        trio.lowlevel.spawn_system_task(self._run)

    async def _run(self) -> None:
        try:
            while self.waiting:
                await trio.lowlevel.checkpoint()
                self.turn()
        finally:
            self._runs = False


def _in_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
