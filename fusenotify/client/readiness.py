# SPDX-License-Identifier: GPL-2.0-or-later
"""A descriptor that select(2) finds readable while a device has something to read.

client.calls and client.watching use it once fileno() was called.  A daemon
sends nothing unless asked, and its data may have been received together with
the answer to another request.  So a poll is always under way, and the
descriptor, an epoll(7) instance, is readable while the socket is, or once the
poll was answered: an eventfd then keeps it readable until the next read.

Invariant
    While there is something to read the descriptor is readable, even if an
        exception from outside (a signal handler's) strikes.  It may be readable
        while there is nothing to read.
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
        with contextlib.suppress(AttributeError):  # epoll_create(2) failed in __init__()
            self.let_go()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._epoll.fileno()

    def follow(self, socket: int) -> None:
        """Be readable while the socket, given as a descriptor, is; until it is closed."""
        self._epoll.register(socket, select.EPOLLIN)

    def rest(self, socket: int, seconds: float) -> None:
        """Be not readable for so many seconds, although the socket is: it is at end of file."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # done already, or closed
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
        """Be readable only while the socket is."""
        if self._event >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)

    def let_go(self) -> None:
        """Close the descriptor."""
        self._epoll.close()
        event, self._event = self._event, -1
        if event >= 0:
            os.close(event)
