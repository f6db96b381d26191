# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks that nobody awaits, and the supervisor's event loop, which begins them at once.

It imports nothing of ours.

Invariant
    References to the running tasks are kept here, since an event loop keeps none.
"""

from __future__ import annotations

import asyncio
from asyncio import Handle
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

_running: set[asyncio.Task[None]] = set()


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose tasks are begun by begin(): most of ours never have to wait.

    Without that, each would take another pass of the loop.  Python has such tasks since 3.12.
    """

    _begins = False

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Make a task and run it until it waits for something; not to be called in a task."""
        self._begins = True
        return self.create_task(work)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle | None:
        """Call soon; if it is the first step of a task that begin() makes, at once."""
        if not self._begins:
            return super().call_soon(callback, *args, context=context)
        self._begins = False
        assert context is not None
        context.run(callback, *args)
        return None


def start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start work as a task in the running loop, and return the task."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, Loop) and asyncio.current_task() is None:
        task = loop.begin(work)
    else:
        task = loop.create_task(work)
    if not task.done():
        _running.add(task)
        task.add_done_callback(_running.discard)
    return task
