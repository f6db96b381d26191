# SPDX-License-Identifier: GPL-2.0-or-later
"""A descriptor that select(2) finds readable while a device has something to read.

client.calls and client.watching use it where somebody asked for fileno().  A
daemon says nothing unasked, and what it said may have been received with the
answer to something else.  So a poll is under way all the time, and the
descriptor, an epoll(7) instance, is readable where the socket is or where its
answer came: then an eventfd says so until the next read.

Invariant
    While there is something to read the descriptor is readable, also where an
        exception from outside (a signal handler's) strikes.  It may be readable
        where there is nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading

from fusenotify.client.process import belongs_here


class Readiness:
    """The descriptor.  It is closed with the last reference to this object."""

    _event = -1

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._event, select.EPOLLIN)
        belongs_here(self)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # there was no descriptor to be had
            self.let_go()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._epoll.fileno()

    def follow(self, socket: int) -> None:
        """Be readable where the socket of that descriptor is, until that is closed."""
        self._epoll.register(socket, select.EPOLLIN)

    def rest(self, socket: int, seconds: float) -> None:
        """Be not readable for so long, though the socket is and will be: it is at its end."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # it rests, or was closed
            self._epoll.unregister(socket)
        self.clear()
        timer = threading.Timer(seconds, self.set)
        timer.daemon = True
        timer.start()

    def set(self) -> None:
        """Be readable."""
        if self._event >= 0:
            os.eventfd_write(self._event, 1)

    def clear(self) -> None:
        """Be readable only where the socket is."""
        if self._event >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)

    def let_go(self) -> None:
        """Close it."""
        self._epoll.close()
        event, self._event = self._event, -1
        if event >= 0:
            os.close(event)
