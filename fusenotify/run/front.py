# SPDX-License-Identifier: GPL-2.0-or-later
"""The front: the process that stands for the program, as its starter sees it.

run.running waits here while run.back supervises in a process of its own.  The program is in
this process's group, so it gets the signals of the terminal, and others to the group, itself.
Signals to this process alone are handed on to the program.  When the program stops, the
supervisor stops this process too, so that a shell sees its job stop.  When a signal kills the
program, this process ends by the same signal.

Invariant
    All signals that can be blocked are blocked here, and taken in one place.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from fusenotify.run.inherited import ALWAYS, HANDED_ON
from fusenotify.run.witness import Witness

# si_code of signals that the kernel sends: the terminal's, which the whole group gets.
_SI_KERNEL = 0x80

STARTED, FAILED, ENDED = b"started", b"failed", b"ended"


class SupervisorLost(Exception):
    """The supervisor was killed, and the program was killed with it."""


class Front:
    """Reads the supervisor's reports: lines in a pipe, each followed by a SIGCHLD."""

    def __init__(self, supervisor: int, reports: int, witness: Witness) -> None:
        self._witness = witness
        self._supervisor = supervisor
        self._reports = reports
        self._program = -1
        self._said = b""

    def begin(self) -> tuple[bytes, bytes]:
        """Wait for the first report, and return its word and the rest of the line.

        The rest is the program's pid after STARTED, and a status and the reason after FAILED.

        Raises SupervisorLost.
        """
        while b"\n" not in self._said:
            data = os.read(self._reports, 4096)
            if not data:
                raise SupervisorLost
            self._said += data
        word, _, rest = self._next().partition(b" ")
        if word == STARTED:
            os.set_blocking(self._reports, False)
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                self._program = os.pidfd_open(int(rest))
        return word, rest

    def wait(self) -> int:
        """Wait for the program's end; return its status, or the negative number of its signal.

        Raises SupervisorLost.
        """
        while True:
            status = self._reported()
            if status is not None:
                return status
            info = signal.sigwaitinfo(HANDED_ON)
            number = info.si_signo
            # SIGPIPE comes from ourselves where the supervisor or the witness is gone.
            is_ours = number == signal.SIGCHLD or info.si_pid in (self._supervisor, os.getpid())
            was_for_all = self._witness.saw(number) or info.si_code == _SI_KERNEL
            if not (is_ours or was_for_all):
                self._hand_on(number)

    def _reported(self) -> int | None:
        """Follow new reports; return the status if the program has ended, otherwise None."""
        at_end = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reports, 4096):
                self._said += data
            at_end = True
        while b"\n" in self._said:
            word, _, rest = self._next().partition(b" ")
            if word == ENDED:
                return int(rest)
        if at_end:
            raise SupervisorLost
        return None

    def _next(self) -> bytes:
        line, _, self._said = self._said.partition(b"\n")
        return line

    def _hand_on(self, number: int) -> None:
        if self._program >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._program, number)


def end_as(status: int) -> int:
    """Return an exit status; if it is negative, end this process by that signal."""
    if status >= 0:
        return status
    number = -status
    # The program has dumped core already; this process must not.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in ALWAYS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number
