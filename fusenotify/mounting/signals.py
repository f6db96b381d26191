# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that ask a daemon to end, from its first step to its last.

cli.mount calls listen() before it checks anything; mounting.daemon looks at the count before
it mounts, and waits for signals while it serves.

Invariants
    The first two signals are counted, whenever they come: between listen() and
        the end of the process no signal is lost or kills the process.
    Handlers only count, so that nothing is interrupted halfway.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The first one asks for the end, the second one ends the grace period; others have no effect.
_MOST = 2


class EndSignals:
    """The number of signals that have asked for the end, for a process's main thread."""

    def __init__(self) -> None:
        self.count = 0
        self._wake: Callable[[], None] | None = None

    def listen(self, *, in_front: bool) -> None:
        """Count signals from now on.

        in_front says that the process runs in the foreground; if it was started by nohup(1),
        it then goes on ignoring SIGHUP.
        """
        for number in _END_SIGNALS:
            kept = number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
            if not (in_front and kept):
                signal.signal(number, self._came)

    def ignore(self) -> None:
        """Ignore signals from now on, so that they cannot turn a finished end into a failure."""
        for number in _END_SIGNALS:
            # While Python ends, it resets every other disposition.
            signal.signal(number, signal.SIG_IGN)

    async def wait_for(self, count: int) -> None:
        """Wait until so many signals have come.  Only one task may wait at a time."""
        import trio  # not imported earlier: mounting.checks says if it is missing

        waiting = trio.lowlevel.ParkingLot()
        token = trio.lowlevel.current_trio_token()
        self._wake = partial(token.run_sync_soon, waiting.unpark_all)
        try:
            while self.count < count:
                await waiting.park()
        finally:
            self._wake = None

    def _came(self, *_: object) -> None:
        if self.count == _MOST:
            return  # this signal came while the last one was handled
        self.count += 1
        if self.count == _MOST:
            self.ignore()  # many signals would leave no time for the end itself
        if self._wake is not None:
            self._wake()
