# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads for calls that may never return, as on a mount whose daemon was stopped.

Such a thread does not prevent the process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> Future[T]:
    """Start a call in a thread of its own; the future's result() accepts a time limit."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
