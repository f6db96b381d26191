# SPDX-License-Identifier: GPL-2.0-or-later
"""A pytest plugin for watchdog's own tests: with it they test fusenotify.watchdog.

``python -m tests.watchdog`` loads it.  Where the tests ask for watchdog's emitters
or observer for Linux they get ours.
"""

from __future__ import annotations

from typing import Any

import pytest
import watchdog.observers
import watchdog.observers.inotify

from fusenotify.watchdog import FusenotifyEmitter, FusenotifyObserver


class FullEmitter(FusenotifyEmitter):
    """What watchdog has a class for and we an option."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, generate_full_events=True, **options)


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    module: Any = watchdog.observers.inotify
    module.InotifyEmitter = FusenotifyEmitter
    module.InotifyFullEmitter = FullEmitter
    module.InotifyObserver = FusenotifyObserver
    packaged: Any = watchdog.observers
    packaged.Observer = FusenotifyObserver
