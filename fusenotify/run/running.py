# SPDX-License-Identifier: GPL-2.0-or-later
"""A program from its start to its end, with its inotify served by us.

cli.run calls run_program(); below are run.child, which starts the program, run.supervisor,
which answers it, and run.signals, which waits for it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from fusenotify.proc import shows_our_numbers
from fusenotify.run import signals
from fusenotify.run.architectures import architectures_here
from fusenotify.run.calls import Calls, Settings
from fusenotify.run.child import CANNOT_RUN, NotStarted, start
from fusenotify.run.filter import reserved_range
from fusenotify.run.journal import Journal
from fusenotify.run.notify import Listener
from fusenotify.run.supervisor import Supervisor


def run_program(
    command: Sequence[str], settings: Settings, journal: Journal, directory: str | None = None
) -> int:
    """Run a program, in a directory where one is given, and return how it ended.

    That is its exit status, or the negative number of the signal that killed it.

    Raises NotStarted.
    """
    if not shows_our_numbers():
        raise NotStarted(CANNOT_RUN, "/proc is not of our pid namespace: mount it there")
    reserved = reserved_range()
    blocked = signals.block()
    pid, listener = start(command, reserved, blocked, directory)

    async def supervise() -> int:
        listening = Listener(listener)
        calls = Calls(listening, architectures_here(), reserved, settings, journal, Warnings())
        supervisor = Supervisor(listening, calls)
        program = signals.Program(pid)
        supervisor.start()
        journal.said("started", pid=pid, command=list(command))
        try:
            status = await program.end()
        finally:
            supervisor.stop()
        journal.said("ended", pid=pid, status=status)
        return status

    return asyncio.run(supervise())


class Warnings:
    """Print a warning on stderr, each one once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            sys.stderr.write(f"fusenotify run: {message}\n")
            sys.stderr.flush()
