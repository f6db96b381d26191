# SPDX-License-Identifier: GPL-2.0-or-later
"""The sending half of a connection: whole frames, one at a time.

server.session takes the outlet, makes a frame of the events that are queued by
then, and sends it.  A stream does this for nearly every event, so bytes that the
socket takes at once are sent without a pass through trio's scheduler.

Invariant
    Only the task that has the outlet (``async with``) sends.
"""

from __future__ import annotations

import os
from types import TracebackType

import trio


class Outlet:
    """Sends to a stream, which has to stay open as long as the outlet is used."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._descriptor = stream.socket.fileno()
        self._lock = trio.Lock()

    def is_idle(self) -> bool:
        """Return whether nothing is being sent."""
        return not self._lock.locked()

    async def __aenter__(self) -> None:
        if self._lock.locked():
            await self._lock.acquire()
        else:
            self._lock.acquire_nowait()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    async def send(self, frame: bytearray) -> None:
        """Send a frame; wait only if the socket is full.

        Raises trio.BrokenResourceError if the client is gone.
        """
        try:
            sent = os.write(self._descriptor, frame)
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError) as gone:
            raise trio.BrokenResourceError from gone
        if sent < len(frame):
            with memoryview(frame) as whole, whole[sent:] as rest:
                await self._stream.send_all(rest)
