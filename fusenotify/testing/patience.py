# SPDX-License-Identifier: GPL-2.0-or-later
"""A time limit for questions to a daemon that may be stopped, for the report of a test."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, give_up: Callable[[], None], ask: Callable[[], T]) -> T:
    """Return what ask() returns.  If that takes longer, call give_up(), which makes ask() end.

    Raises TimeoutError if it took longer, otherwise what ask() raises.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        give_up()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        return ask()
    except OSError as error:
        if late.is_set():
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
        raise
    finally:
        timer.cancel()
