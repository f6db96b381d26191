# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads for calls that may wait for a filesystem, for as long as it hangs.

run.paths and run.mounts use them.  The event loop's own threads are few, so that one hanging
filesystem would keep all others waiting; and the loop waits for them at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# As many threads of programs can wait at the same time; further calls wait for one to end.
_MOST = 1000

_threads = ThreadPoolExecutor(_MOST, "fusenotify-waits")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call work in a thread, and return what it returns."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, lambda: work(*args, **kwargs))
