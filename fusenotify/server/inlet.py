# SPDX-License-Identifier: GPL-2.0-or-later
"""The receiving half of a connection: bytes, and the descriptors that come with them.

server.session receives here; server.service has it end.  Linux: SCM_RIGHTS of
unix(7).

Invariants
    The kernel closes no descriptor of a client's in the serving thread, and
        neither do we: the last close of a socket that lingers, or of what
        somebody unmounted, may take its time.  So all are received, and closed
        in a thread, also those that nobody asked for, and at the end those in
        what was never read.
    A connection has one descriptor at most that waits to be used, and waits
        for those that are being closed; so it keeps nobody else waiting.
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
# Linux: SCM_MAX_FD, the most descriptors that one message has.
_CONTROL_SIZE = socket.CMSG_LEN(253 * _INTS.itemsize)

Control = Iterable[tuple[int, int, bytes]]


class Inlet:
    """Receives over a stream that stays open as long as the inlet is used."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket
        self._passed: int | None = None
        # As many as there are connections: none waits for another's.
        self._closing = trio.CapacityLimiter(math.inf)

    async def receive(self) -> bytes:
        """Return what the client sent, b"" where it is gone or sends no more.

        Raises RemoteProtocolError (EPROTO) where more descriptors come than
        one that is to be used.
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
                raise RemoteProtocolError(errno.EPROTO, "one descriptor comes with one request")
        return data

    def check_used(self) -> None:
        """Refuse a descriptor that came with a request that takes none.

        Raises RemoteProtocolError (EPROTO).
        """
        if self._passed is not None:
            raise RemoteProtocolError(
                errno.EPROTO, "a descriptor comes with an add_watch without a path only"
            )

    def take(self) -> int:
        """Return the descriptor that came, for the caller to close().

        Raises OSError (EBADF) where none came.
        """
        if self._passed is None:
            raise OSError(errno.EBADF, "an add_watch without a path comes with a descriptor")
        passed, self._passed = self._passed, None
        return passed

    async def close(self, descriptors: Iterable[int]) -> None:
        """Close what a client passed, however long that takes."""
        await trio.to_thread.run_sync(
            _close_all, list(descriptors), abandon_on_cancel=True, limiter=self._closing
        )

    async def end(self) -> None:
        """Receive no more, so that closing the socket, which is left to the caller, cannot wait."""
        with contextlib.suppress(OSError):  # the client is gone; what it sent may still be here
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
    """Close what was passed, and what comes with that which was not read."""
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
