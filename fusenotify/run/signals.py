# SPDX-License-Identifier: GPL-2.0-or-later
"""The program's signals, stops and end, for whoever started us in its place.

The program is in our process group: what the terminal sends, or somebody to the group, it
gets itself.  What was sent to us alone we hand on.  Where it stops we stop, so that a shell
sees its job stop, and where it ended by a signal so do we.

Invariant
    All signals that can be are blocked in this process, and taken by one thread.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading

# Sent by the kernel: by the terminal, to all of the group.
_SI_KERNEL = 0x80
# Those that tell of a fault of ours, or stay.
_OURS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
_ALWAYS = {signal.SIGKILL, signal.SIGSTOP}
HANDED_ON = signal.valid_signals() - _OURS - _ALWAYS - {signal.SIGPIPE, signal.SIGABRT}


def block() -> set[signal.Signals]:
    """Block the signals that are handed on; return what was blocked before."""
    return {
        signal.Signals(number)
        for number in signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
        if number in signal.valid_signals()
    }


class Program:
    """A child, from its start to its end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        threading.Thread(target=self._take_signals, name="signals", daemon=True).start()
        self._look()

    async def end(self) -> int:
        """Return the program's exit status, or the negative number of its signal."""
        return await self._status

    def _take_signals(self) -> None:
        while True:
            info = signal.sigwaitinfo(HANDED_ON)
            try:
                self._loop.call_soon_threadsafe(self._signalled, info.si_signo, info.si_code)
            except RuntimeError:
                return  # the loop has ended

    def _signalled(self, number: int, code: int) -> None:
        if number == signal.SIGCHLD:
            self._look()
        elif code == _SI_KERNEL or self._status.done():
            pass
        elif number != signal.SIGCONT or self._is_stopped():
            os.kill(self.pid, number)

    def _look(self) -> None:
        """See what has become of the program."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        except ChildProcessError:
            return
        if not pid:
            return
        if os.WIFSTOPPED(status):
            # Not by the same signal, which a process group that nobody controls would ignore.
            os.kill(os.getpid(), signal.SIGSTOP)
            self._look()
        elif os.WIFCONTINUED(status):
            self._look()
        elif not self._status.done():
            self._status.set_result(os.waitstatus_to_exitcode(status))

    def _is_stopped(self) -> bool:
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
        except OSError:
            return False


def end_as(status: int) -> int:
    """Return an exit status, or end by the signal that a negative one is the number of."""
    if status >= 0:
        return status
    number = -status
    # One core dump is enough, and that is the program's.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in _ALWAYS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number
