# SPDX-License-Identifier: GPL-2.0-or-later
"""The signals of whoever started the run: taken over at the start, given to the program.

run.running takes them, run.child gives them to the program, run.front and run.back wait for
them.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

# These cannot be blocked.
ALWAYS = {signal.SIGKILL, signal.SIGSTOP}
# A fault of ours ends us, although its signal is blocked: so those that others send are handed on.
HANDED_ON = signal.valid_signals() - ALWAYS
# Python ignores these signals before it runs any code of ours; programs expect the default
# action.
_CHANGED = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Inherited:
    """The signals that were blocked when the run started, and whether SIGCHLD was ignored."""

    blocked: frozenset[int]
    ignores_children: bool

    @classmethod
    def taken(cls) -> Inherited:
        """Block the signals that are handed on, and hear of children; return what was before."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
        # Where it is ignored, wait(2) never tells how a child has ended.
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return cls(frozenset(map(int, before)), handler == signal.SIG_IGN)

    def restore(self) -> None:
        """Make this process as it was, apart from handlers, which end with the next execve(2)."""
        for number in _CHANGED:
            signal.signal(number, signal.SIG_DFL)
        if self.ignores_children:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
