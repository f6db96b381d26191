# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks that nobody awaits: references to them are kept here, since the event loop keeps none.

It imports nothing of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_running: set[asyncio.Task[None]] = set()


def start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start work as a task in the running loop, and return the task."""
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task
