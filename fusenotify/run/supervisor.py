# SPDX-License-Identifier: GPL-2.0-or-later
"""The supervisor: an event loop that answers a program's calls until the program ends.

run.back starts it; run.calls answers each call in a task of its own.

Invariant
    Nothing in this loop blocks: work that may block is done in threads (run.paths).
"""

from __future__ import annotations

import asyncio
import select

from fusenotify.run import tasks
from fusenotify.run.calls import Calls
from fusenotify.run.descriptor import InotifyDescriptor
from fusenotify.run.notify import Listener


class Supervisor:
    """Listens for notifications, and to the pipes of the program's descriptors."""

    def __init__(self, listener: Listener, calls: Calls) -> None:
        self._listener = listener
        self._calls = calls
        self._pipes: dict[int, InotifyDescriptor] = {}
        self._epoll = select.epoll()
        self._unused = asyncio.Event()
        calls.on_made = self._made
        calls.look_for_gone = self._piped

    def start(self) -> None:
        """Begin to listen, in the running loop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listener.fileno(), self._notified)
        loop.add_reader(self._epoll.fileno(), self._piped)

    async def unused(self) -> None:
        """Wait until no process is left under the filter."""
        await self._unused.wait()

    def stop(self) -> None:
        """Stop answering, and drop all descriptors."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        loop.remove_reader(self._epoll.fileno())
        self._calls.close()
        self._epoll.close()
        self._listener.close()

    def _notified(self) -> None:
        notification = self._listener.receive()
        if notification is not None:
            tasks.start(self._calls.handle(notification))
        elif not self._listener.has_users():
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._unused.set()

    def _made(self, descriptor: InotifyDescriptor) -> None:
        # Edge-triggered: otherwise an empty pipe would be reported all the time.
        self._pipes[descriptor.pipe.fileno()] = descriptor
        self._epoll.register(descriptor.pipe.fileno(), select.EPOLLOUT | select.EPOLLET)

    def _piped(self) -> None:
        for number, events in self._epoll.poll(0):
            descriptor = self._pipes[number]
            if events & select.EPOLLERR:
                del self._pipes[number]
                self._epoll.unregister(number)
                self._calls.gone(descriptor)
            else:
                descriptor.room_came()
