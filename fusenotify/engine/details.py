# SPDX-License-Identifier: GPL-2.0-or-later
"""What a detailed device says of an event beside its record: number, time, who did it, old path.

engine.core has one Details and tells it of each event while a detailed device
(engine.detailed_device) is there; else nothing here is called.

Invariants
    Each event that the core tells gets a number, larger than all before, whoever
        hears it; so all devices of a mount give it the same.  The two halves of
        a rename have one number and one time.
    Who did something is looked up while the program waits for it, so that it
        is there to be looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fusenotify.credentials import Actor, Process
from fusenotify.engine.inodes import Inode


@dataclass(slots=True)
class QueuedEvent:
    """One event as a detailed device queues it.

    sequence is its number, time in ns since 1970.  wd, mask, cookie and path are
    those of a record: path is the name of fusenotify.events.Event.  is_dir says that
    it is about a directory.  old_path is that before a rename that the watch saw
    whole, process who did it, lost how many events an IN_Q_OVERFLOW stands for.
    below is the directory below a tree watch that says it.
    """

    sequence: int
    time: int
    wd: int
    mask: int
    cookie: int
    path: bytes | None
    is_dir: bool
    process: Process | None = None
    below: Inode | None = None
    old_path: bytes | None = None
    lost: int | None = None


class Details:
    """The number and the time of the event that is told now, and who does it.

    sequence counts the events that were told while somebody asked for details.
    process_of returns the process of a thread, or 0 where it is gone or not to
    be seen; command_of the name of a process's command.  The filesystem says what they are.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.sequence = 0
        self.time = 0
        self.clock = clock
        self.process_of: Callable[[int], int] = int
        self.command_of: Callable[[int], bytes | None] = _unknown
        self._cookie = 0
        self._actor: Actor | None = None
        self._process: Process | None = None

    def number(self, cookie: int = 0) -> None:
        """Say that the next event is told, which has this cookie."""
        if cookie and cookie == self._cookie:
            return  # the other half of a rename
        self._cookie = cookie
        self.sequence += 1
        self.time = self.clock()

    def process(self, actor: Actor | None) -> Process | None:
        """Return the process that does what an actor does, as far as it is known."""
        if actor is not self._actor:
            self._actor = actor
            process = self._looked_up(actor)
            if process != self._process:  # else queues share one
                self._process = process
        return self._process

    def _looked_up(self, actor: Actor | None) -> Process | None:
        if actor is None or isinstance(actor, Process):
            return actor
        process = self.process_of(actor.pid) if actor.pid else 0
        command = self.command_of(process) if process else None
        return Process(process, actor.uid, actor.gid, command)


def _unknown(_: int) -> None:
    return None
