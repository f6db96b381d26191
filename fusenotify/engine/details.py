# SPDX-License-Identifier: GPL-2.0-or-later
"""The details of an event beyond its record: number, time, process and old path.

engine.core has one Details, and reports each event to it while there is a
detailed device (engine.detailed_device); otherwise nothing here is called.

Invariants
    Each event of the core gets a number larger than all before, whichever
        devices get the event; so all devices of a mount show the same number.
        The two halves of a rename have one number and one time.
    The process of an event is looked up while the program waits for its
        request, so the process still exists.
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

    sequence is its number, time is in ns since 1970.  wd, mask and cookie are
    those of a record, and path is the name in the record.  is_dir says that the
    event is about a directory.  old_path is the path before a rename of which the
    watch got both halves; process is the process that caused the event; lost is
    the number of events that an IN_Q_OVERFLOW stands for.  below is the directory
    in which the event happened if that lies below the directory of a tree watch.
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
    """The number, the time and the process of the event that the core reports now.

    sequence counts the events since the mount was made, of those times when some
    device wanted details.  process_of returns the id of a thread's process, or 0
    if it is gone or invisible; command_of returns the name of a process's command,
    or None.  The filesystem sets both.  clock returns the time in ns since 1970.
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
        """Begin the next event, which has this cookie: give it its number and time."""
        if cookie and cookie == self._cookie:
            return  # the other half of a rename
        self._cookie = cookie
        self.sequence += 1
        self.time = self.clock()

    def process(self, actor: Actor | None) -> Process | None:
        """Return the process of an actor, with the fields that are known; None if there is none."""
        if actor is not self._actor:
            self._actor = actor
            process = self._looked_up(actor)
            if process != self._process:  # if equal, queued events share one object
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
