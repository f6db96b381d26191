# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is at the other end of a Unix socket, as it was when it connected.  Linux: unix(7)."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from fusenotify.credentials import Credentials

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59  # the socket module has no name for it
_GROUPS_AT_FIRST = 64

_libc = ctypes.CDLL(None, use_errno=True)


def credentials(descriptor: int) -> Credentials:
    """Return the peer of a connected socket.

    Raises OSError.
    """
    pid, uid, gid = _UCRED.unpack(_getsockopt(descriptor, socket.SO_PEERCRED, _UCRED.size))
    groups = _getsockopt(descriptor, _SO_PEERGROUPS, 4 * _GROUPS_AT_FIRST)
    return Credentials(pid, uid, gid, frozenset(memoryview(groups).cast("I")))


def is_privileged(who: Credentials) -> bool:
    """Return whether who may see and exceed what belongs to others."""
    return who.uid in (0, os.geteuid())


def _getsockopt(descriptor: int, option: int, size: int) -> bytes:
    """Return an option of any length; socket.getsockopt() stops at 1024 bytes."""
    length = ctypes.c_uint(size)
    while True:
        buffer = ctypes.create_string_buffer(length.value)
        result = _libc.getsockopt(
            descriptor, socket.SOL_SOCKET, option, buffer, ctypes.byref(length)
        )
        if not result:
            return buffer.raw[: length.value]
        code = ctypes.get_errno()
        if code != errno.ERANGE:  # which has put the length it needs into length
            raise OSError(code, os.strerror(code))
