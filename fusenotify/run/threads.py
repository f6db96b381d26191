# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads for calls that may wait: for a filesystem, as long as it hangs, or for the kernel.

run.paths, run.mounts and run.sources use them.  The event loop's own threads are few, so that one
hanging filesystem would keep all others waiting; and the loop waits for them at its end.
"""

from __future__ import annotations

import asyncio
import os
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


def close_inotify(descriptor: int) -> None:
    """Close a descriptor of the kernel's inotify in a thread: that takes milliseconds."""
    _threads.submit(os.close, descriptor)
