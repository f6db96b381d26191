# SPDX-License-Identifier: GPL-2.0-or-later
"""The supervisor's process: it starts the program, answers its calls and reports its end.

run.running forks this process from the one that stands for the program (run.front).  The
supervisor is the program's parent, because Yama lets only ancestors look into a process.

Invariants
    The supervisor is in a session of its own, so that no signal to the program's group stops it
        while the program runs on, and so that the kernel ends a stopped job whose shell is gone,
        as it does if the job is only the program.
    Of the program's descriptors it keeps only stderr open, and only as long as PROGRAM runs.
    It ends when no process under the filter is left.  If its parent is killed, it kills
        the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from fusenotify.run import tasks
from fusenotify.run.architectures import architectures_here
from fusenotify.run.calls import Calls, Settings
from fusenotify.run.child import NotStarted, start
from fusenotify.run.filter import Range, reserved_range
from fusenotify.run.front import ENDED, FAILED, STARTED
from fusenotify.run.inherited import HANDED_ON, Inherited
from fusenotify.run.notify import Listener
from fusenotify.run.recorder import Recorder
from fusenotify.run.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Order:
    """What to run: a command, its directory (None for ours), and the signals that it inherits."""

    command: Sequence[str]
    directory: str | None
    signals: Inherited
    settings: Settings
    recorder: Recorder


class Reporter:
    """Sends reports to the front, as long as the front lives."""

    def __init__(self, reports: int) -> None:
        self._reports = reports
        self._front = os.getppid()

    def say(self, word: bytes, rest: bytes = b"") -> None:
        """Report, and wake the front."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._reports, word + b" " + rest.replace(b"\n", b" ") + b"\n")
        self._send(signal.SIGCHLD)

    def stop(self) -> None:
        """Stop the front, because the program was stopped.

        The front does not stop itself: wake() could come first, and then be of no use.
        """
        # SIGSTOP, because others (SIGTSTP) do nothing in an orphaned process group.
        self._send(signal.SIGSTOP)

    def wake(self) -> None:
        """Continue the front, if it is stopped, because the program was continued."""
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        if os.getppid() == self._front:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._front, number)


def supervise(order: Order, reports: int, lifeline: int, keep: set[int]) -> None:
    """Start the program and serve it until the end; this process was forked for it.

    reports is the pipe to the front.  lifeline becomes readable when the front has ended.
    keep are further descriptors that stay open.
    """
    keep |= {0, 1, 2, reports, lifeline}
    _close_all(lambda number: number not in keep and not os.get_inheritable(number))
    reporter = Reporter(reports)
    reserved = reserved_range()
    try:
        pid, listener = start(order.command, reserved, order.signals, order.directory)
    except NotStarted as failure:
        reporter.say(FAILED, b"%d %b" % (failure.status, os.fsencode(str(failure))))
        return
    reporter.say(STARTED, b"%d" % pid)
    os.setsid()
    keep.add(listener)
    _close_all(lambda number: number not in keep)
    _to_nothing(0, 1)
    # Two of our descriptors serve one of the program's, and the program may have many.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=tasks.Loop) as runner:
        runner.run(_supervised(order, Listener(listener), reserved, pid, reporter, lifeline))


async def _supervised(
    order: Order,
    listener: Listener,
    reserved: Range,
    pid: int,
    reporter: Reporter,
    lifeline: int,
) -> None:
    warn = order.recorder.warn = Warnings()
    calls = Calls(listener, architectures_here(), reserved, order.settings, order.recorder, warn)
    supervisor = Supervisor(listener, calls)
    program = _Program(pid, reporter)
    loop = asyncio.get_running_loop()

    def front_is_gone() -> None:
        loop.remove_reader(lifeline)
        program.kill()

    loop.add_reader(lifeline, front_is_gone)
    supervisor.start()
    order.recorder.said("started", pid=pid, command=list(order.command))
    status = await program.end()
    order.recorder.said("ended", pid=pid, status=status)
    if not order.recorder.log_is(2):
        _to_nothing(2)
    reporter.say(ENDED, b"%d" % status)
    reporter.wake()  # that the program was continued before its end was perhaps not seen
    await supervisor.unused()
    supervisor.stop()


class _Program:
    """The program, from its start to its end."""

    def __init__(self, pid: int, reporter: Reporter) -> None:
        self.pid = pid
        self._reporter = reporter
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[int] = self._loop.create_future()
        threading.Thread(target=self._take_signals, name="signals", daemon=True).start()
        self._look()

    async def end(self) -> int:
        """Wait for the program's end.

        Returns its exit status, or the negative number of the signal that killed it.
        """
        return await self._status

    def kill(self) -> None:
        """Kill the program, unless it has ended."""
        if not self._status.done():
            os.kill(self.pid, signal.SIGKILL)

    def _take_signals(self) -> None:
        while True:
            number = signal.sigwaitinfo(HANDED_ON).si_signo
            try:
                self._loop.call_soon_threadsafe(self._signalled, number)
            except RuntimeError:
                return  # the loop has ended

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._look()
        elif not self._status.done():
            os.kill(self.pid, number)

    def _look(self) -> None:
        """Report whether the program was stopped, was continued or has ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
                if not pid:
                    return
                if os.WIFSTOPPED(status):
                    self._reporter.stop()
                elif os.WIFCONTINUED(status):
                    self._reporter.wake()
                elif not self._status.done():
                    self._status.set_result(os.waitstatus_to_exitcode(status))


class Warnings:
    """Prints warnings on stderr, each text only once; what cannot be printed is lost."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._said and sys.stderr is not None:
            self._said.add(message)
            with contextlib.suppress(OSError):
                sys.stderr.write(f"fusenotify run: {message}\n")
                sys.stderr.flush()


def _close_all(is_chosen: object) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # listdir() has closed its own descriptor
            if is_chosen(number):  # type: ignore[operator]
                os.close(number)


def _to_nothing(*numbers: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in numbers:
        os.dup2(nothing, number)
    os.close(nothing)
