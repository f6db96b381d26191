# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that only tells whether a signal was sent to the whole process group.

The kernel does not say so to who gets one.  run.front hands on what was sent to it alone, and
the program gets by itself what was sent to the group.  So a third member of the group, which
blocks all signals, is asked: what came to it as well was for the group.

Invariant
    It ends with the process that made it, and has nothing open but its two pipes.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct

_PR_SET_PDEATHSIG = 1
_NUMBER = struct.Struct("=i")
# Where it does not answer, somebody has stopped it.
_SECONDS = 1.0


class Witness:
    """The process, for as long as end() was not called.  Signals are blocked before it is made."""

    def __init__(self) -> None:
        asked, self._ask = os.pipe()
        self._answer, answers = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                _be_one(asked, answers)
            finally:
                os._exit(0)
        os.close(asked)
        os.close(answers)

    def saw(self, number: int) -> bool:
        """Return whether a signal came to it as well, once for each time that it came."""
        try:
            os.write(self._ask, _NUMBER.pack(number))
        except BrokenPipeError:
            return False
        if not select.select([self._answer], [], [], _SECONDS)[0]:
            return False
        return os.read(self._answer, 1) == b"y"

    def end(self) -> None:
        """End it."""
        os.close(self._ask)
        os.close(self._answer)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _be_one(asked: int, answers: int) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in (asked, answers):
            try:
                os.close(number)
            except OSError:
                continue  # the directory's own
    while len(request := os.read(asked, _NUMBER.size)) == _NUMBER.size:
        came = signal.sigtimedwait(_NUMBER.unpack(request), 0)
        os.write(answers, b"n" if came is None else b"y")
