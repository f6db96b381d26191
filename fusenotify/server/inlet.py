# SPDX-License-Identifier: GPL-2.0-or-later
"""The receiving half of a connection: bytes, and the descriptors that come with them.

server.session receives here; server.service ends it.  Linux: SCM_RIGHTS of
unix(7).

Invariants
    No descriptor from a client is closed in the serving thread, neither by us
        nor by the kernel: the last close of a socket that lingers, or of a
        file on an unmounted filesystem, may take long.  So all descriptors are
        received, and closed in another thread: those that were not asked for,
        too, and at the end those that come with unread data.  The exception are
        directories of the mount itself, which have no data that we would have
        to write first.
    A connection has at most one descriptor that is not used yet, and waits
        while its descriptors are closed; so it keeps no other connection
        waiting.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import math
import os
import socket
import termios
from collections.abc import Iterable

import trio

from fusenotify.protocol.errors import RemoteProtocolError

_RECEIVE_SIZE = 64 * 1024
_INTS = array.array("i")
# Linux: SCM_MAX_FD, the most descriptors in one message.
_CONTROL_SIZE = socket.CMSG_LEN(253 * _INTS.itemsize)

Control = Iterable[tuple[int, int, bytes]]


class Passed:
    """A descriptor that a client passed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_open = True

    def close_here(self) -> None:
        """Close the descriptor of a directory of our own mount, which never waits."""
        self.is_open = False
        os.close(self.number)


class Inlet:
    """Receives from a stream, which has to stay open as long as the inlet is used."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket
        self._passed: int | None = None
        # Without a limit, so that no connection waits for a thread of another one.
        self._closing = trio.CapacityLimiter(math.inf)

    async def receive(self) -> bytes:
        """Return bytes that the client sent; b"" if it is gone or will send no more.

        Raises RemoteProtocolError (EPROTO) if several descriptors come, or one
        before another was used.
        """
        try:
            data, control, flags, _ = await self._socket.recvmsg(
                _RECEIVE_SIZE, _CONTROL_SIZE, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return b""
        if control:
            passed = _descriptors(control)
            if self._passed is None and len(passed) == 1 and not flags & socket.MSG_CTRUNC:
                (self._passed,) = passed
            else:
                await self.close(passed)
                raise RemoteProtocolError(
                    errno.EPROTO, "only one descriptor may come with a request"
                )
        return data

    def check_used(self) -> None:
        """Check that no descriptor came with a request that takes none.

        Raises RemoteProtocolError (EPROTO).
        """
        if self._passed is not None:
            raise RemoteProtocolError(
                errno.EPROTO, "a descriptor may only come with an add_watch without a path"
            )

    def take(self) -> Passed:
        """Return the descriptor that came, to be ended by finish().

        Raises OSError (EBADF) if none came.
        """
        if self._passed is None:
            raise OSError(errno.EBADF, "an add_watch without a path needs a descriptor")
        passed, self._passed = self._passed, None
        return Passed(passed)

    async def finish(self, passed: Passed) -> None:
        """Close what take() returned, unless it is closed already."""
        if passed.is_open:
            await self.close([passed.number])

    async def close(self, descriptors: Iterable[int]) -> None:
        """Close descriptors that a client passed, however long that takes."""
        await trio.to_thread.run_sync(
            _close_all, list(descriptors), abandon_on_cancel=True, limiter=self._closing
        )

    async def end(self) -> None:
        """End receiving; after this, the caller can close the socket without waiting."""
        with contextlib.suppress(OSError):  # the client is gone, but its data may still be here
            self._socket.shutdown(socket.SHUT_RD)
        if self._passed is None and not _has_unread(self._socket.fileno()):
            return
        passed, self._passed = self._passed, None
        try:
            await trio.to_thread.run_sync(
                _discard,
                os.dup(self._socket.fileno()),
                [] if passed is None else [passed],
                abandon_on_cancel=True,
                limiter=self._closing,
            )
        except trio.Cancelled:
            os.dup(self._socket.fileno())  # the end of the process will close it, without waiting
            raise


def _descriptors(control: Control) -> list[int]:
    """Return the descriptors in control messages."""
    found: list[int] = []
    for level, kind, value in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(value[: len(value) - len(value) % numbers.itemsize])
            found += numbers
    return found


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _discard(connection: int, passed: list[int]) -> None:
    """Close the descriptors that were passed, and those that come with unread data."""
    _close_all(passed)
    with socket.socket(fileno=connection) as unread:
        while True:
            try:
                data, control, _, _ = unread.recvmsg(
                    _RECEIVE_SIZE, _CONTROL_SIZE, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return
            _close_all(_descriptors(control))
            if not data:
                return


def _has_unread(descriptor: int) -> bool:
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return bool(count[0])
