# SPDX-License-Identifier: GPL-2.0-or-later
"""Trapped reads: answered from the queue, continued on the pipe, or held back.

run.calls refreshes the descriptor first, so that all earlier events are there.  A read that
has to wait usually waits in the kernel, on the pipe, where signals and debuggers find it.
It is held back here only if its buffer may be too small for a record.

Invariant
    Events whose bytes reached nobody are queued again, before the later ones.  As in the kernel,
        those up to the first record that cannot be stored are lost (EFAULT).
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from fusenotify.events import Event, record_size
from fusenotify.run import tasks
from fusenotify.run.descriptor import InotifyDescriptor
from fusenotify.run.notify import Listener, Notification
from fusenotify.run.recorder import Recorder
from fusenotify.run.target import Target

# The kernel restarts the call if the signal's handler has SA_RESTART; otherwise EINTR.
_ERESTARTSYS = 512
# How often the threads of calls that we hold back are checked for a signal.
_SIGNAL_SECONDS = 0.05
_MOST_READ = 0x7FFFF000
# All addresses below this may be a program's.
_ADDRESSES = (1 << 47) - 4096


@dataclass(slots=True)
class TrappedRead:
    """A read to answer.  places are the addresses and sizes of the buffers; size is the first's."""

    notification: Notification
    target: Target
    name: str
    number: int
    places: list[tuple[int, int]]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = min(self.places[0][1], _MOST_READ)

    def sizes(self) -> list[int]:
        """Return the sizes of all buffers."""
        return [self.size, *(size for _, size in self.places[1:])]

    def ends_beyond(self, address: int) -> bool:
        """Return whether a buffer ends above an address."""
        return any(place + size > address for place, size in self.places)


class Reads:
    """Answers reads, and keeps those that are not answered yet."""

    def __init__(self, listener: Listener, recorder: Recorder) -> None:
        self._listener = listener
        self._recorder = recorder
        self._held: dict[InotifyDescriptor, list[TrappedRead]] = {}
        self._signals: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Stop looking for signals."""
        if self._signals is not None:
            self._signals.cancel()

    def forget(self, descriptor: InotifyDescriptor) -> None:
        """End the reads of a descriptor that no process has any more."""
        for read in self._held.pop(descriptor, []):
            self._finish(read, -errno.EBADF)  # another thread has closed it meanwhile

    def serve(self, descriptor: InotifyDescriptor, read: TrappedRead) -> None:
        """Answer a read, or hold it back until there is an event."""
        try:
            if self._served(descriptor, read):
                return
            self._held.setdefault(descriptor, []).append(read)
            if self._signals is None:
                self._signals = tasks.start(self._look_for_signals())
        finally:
            descriptor.settle()

    def _served(self, descriptor: InotifyDescriptor, read: TrappedRead) -> bool:
        """Answer a read if that is possible now; return whether it was."""
        if read.ends_beyond(_ADDRESSES):
            # The kernel knows where the program's addresses end, and it looks before it reads.
            descriptor.settle()
            self._listener.let_continue(read.notification.id)
            self._tell_of(read, "from the pipe")
            return True
        if descriptor.is_for_the_pipe(read.size):
            descriptor.expect(read.size)
            self._listener.let_continue(read.notification.id)
            self._tell_of(read, "from the pipe")
            return True
        if descriptor.is_empty():
            if not read.target.flags(read.number) & os.O_NONBLOCK:
                return False
            self._finish(read, -errno.EAGAIN)
            return True
        if not self._listener.is_valid(read.notification.id):
            return True
        try:
            events, data = descriptor.take(*read.sizes())
        except OSError as error:
            self._finish(read, -(error.errno or errno.EINVAL))
            return True
        if not data and descriptor.is_empty():
            return self._served(descriptor, read)
        try:
            stored = read.target.store(data, read.places)
        except OSError as error:
            self._finish(read, -(error.errno or errno.EIO))
            descriptor.put_back(events)
            return True
        if stored < len(data):
            tried = _tried(events, stored)
            if not self._finish(read, -errno.EFAULT):
                tried = 0
            descriptor.put_back(events[tried:])
            return True
        if not self._finish(read, len(data)):
            descriptor.put_back(events)
        return True

    def serve_held(self, descriptor: InotifyDescriptor) -> None:
        """Answer the reads that waited for an event of a descriptor."""
        waiting = self._held.get(descriptor, [])
        while waiting and not descriptor.is_empty():
            read = waiting.pop(0)
            try:
                if not self._served(descriptor, read):
                    waiting.insert(0, read)
                    return
            except OSError as error:
                self._finish(read, -(error.errno or errno.EIO))

    async def _look_for_signals(self) -> None:
        """End the reads that we hold back when a signal came, or when the thread is gone."""
        while any(self._held.values()):
            await asyncio.sleep(_SIGNAL_SECONDS)
            taken: set[int] = set()
            for reads in self._held.values():
                for read in list(reads):
                    try:
                        if read.target.has_signal(taken):
                            reads.remove(read)
                            self._finish(read, -_ERESTARTSYS)
                    except OSError:
                        reads.remove(read)
        self._signals = None

    def _finish(self, read: TrappedRead, result: int) -> bool:
        self._tell_of(read, result)
        return self._listener.answer(read.notification.id, result)

    def _tell_of(self, read: TrappedRead, result: int | str) -> None:
        if self._recorder.is_wanted:
            shown: dict[str, object] = {"fd": read.number, "size": read.size}
            self._recorder.call(read.notification.thread, read.name, shown, result)


def _tried(events: Sequence[Event], stored: int) -> int:
    """Return how many events were lost if their records were stored one by one up to a fault."""
    for number, event in enumerate(events, 1):
        stored -= record_size(event.name)
        if stored < 0:
            return number
    return len(events)
