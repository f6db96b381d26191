# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that ask a daemon to end, from its first step to its last.

cli.mount listens before it checks anything; mounting.daemon asks before it mounts, and
waits while it serves.

Invariants
    The first two signals are counted, whenever they came: between listen() and
        the end of the process none is lost or deadly.
    Handlers only count, so that nothing is broken off half done.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The first asks for the end, the second is impatient; a further one has nothing to say.
_MOST = 2


class EndSignals:
    """How many signals have asked for the end, for a process's main thread."""

    def __init__(self) -> None:
        self.count = 0
        self._wake: Callable[[], None] | None = None

    def listen(self, *, in_front: bool) -> None:
        """Count from here on.

        in_front says that the process belongs to whoever started it: what was begun by
        nohup(1) then goes on ignoring SIGHUP.
        """
        for number in _END_SIGNALS:
            kept = number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
            if not (in_front and kept):
                signal.signal(number, self._came)

    def ignore(self) -> None:
        """Ignore them from here on: the end is reached, and shall not become a failure."""
        for number in _END_SIGNALS:
            # Python gives every other disposition back to the system while it ends.
            signal.signal(number, signal.SIG_IGN)

    async def wait_for(self, count: int) -> None:
        """Return when so many have come.  One task waits at a time."""
        import trio  # known to be there when there is something to wait in

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
            return  # it came while the last one was handled
        self.count += 1
        if self.count == _MOST:
            self.ignore()  # a flood would leave no time for the end itself
        if self._wake is not None:
            self._wake()
