# SPDX-License-Identifier: GPL-2.0-or-later
"""The front: the process that stands for the program, as its starter sees it.

run.running waits here while run.back supervises in a process of its own.  The program is in
this process's group, so it gets the signals of the terminal, and others to the group, itself.
Signals to this process alone are handed on to the program.  A program such as a shell makes a
group of its own, where alone it would lead this one: then its group gets both kinds.

When the program stops, the supervisor stops this process too, so that a shell sees its job stop.
When a signal kills the program, this process ends by the same signal.

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
        self._pid = self._program = -1
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
            self._pid = int(rest)
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                self._program = os.pidfd_open(self._pid)
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
            if not is_ours:
                self._hand_on(number, was_for_all)

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

    def _hand_on(self, number: int, was_for_all: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            if not was_for_all:
                signal.pidfd_send_signal(self._program, number)
            elif self._leads_a_group():
                if number == signal.SIGCONT:
                    _give_terminal(self._pid)
                os.killpg(self._pid, number)

    def _leads_a_group(self) -> bool:
        """Return whether the program made itself a group in our session, and lives."""
        group, session = os.getpgid(self._pid), os.getsid(self._pid)
        signal.pidfd_send_signal(self._program, 0)  # else the id may be another's
        return group == self._pid and session == os.getsid(0)


def _give_terminal(group: int) -> None:
    """Put a group into the foreground of the terminal, if there is one and it is in ours."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.tcgetpgrp(terminal) == os.getpgrp():
                os.tcsetpgrp(terminal, group)
        finally:
            os.close(terminal)


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
