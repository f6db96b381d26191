# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that tells whether a signal was sent to the whole process group.

The kernel does not tell this to the receiver of a signal.  run.front must hand on only signals
that were sent to it alone, because the program gets signals to the group itself.  So there is
a third member of the group, which blocks all signals: a signal that it got as well was sent to
the group.

Invariant
    The witness ends with the process that made it, and has only its two pipes open.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct

_PR_SET_PDEATHSIG = 1
_NUMBER = struct.Struct("=i")
# How long to wait for its answer: it may have been stopped.
_SECONDS = 1.0


class Witness:
    """The process, until end() is called.  Block all signals before making it."""

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
        """Return whether the witness got a signal, too; each signal that it got counts once."""
        try:
            os.write(self._ask, _NUMBER.pack(number))
        except BrokenPipeError:
            return False
        if not select.select([self._answer], [], [], _SECONDS)[0]:
            return False
        return os.read(self._answer, 1) == b"y"

    def end(self) -> None:
        """Kill the witness and wait for its end."""
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
                continue  # listdir() has closed its own descriptor
    while len(request := os.read(asked, _NUMBER.size)) == _NUMBER.size:
        came = signal.sigtimedwait(_NUMBER.unpack(request), 0)
        os.write(answers, b"n" if came is None else b"y")
