# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is at the other end of a Unix socket, as it was when it connected.  Linux: unix(7)."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import sys

from fusenotify.credentials import Credentials
from fusenotify.proc import shows_our_numbers

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59  # the socket module has no names for these
_SO_PEERPIDFD = 77  # since Linux 6.5
_GROUPS_AT_FIRST = 64

_libc = ctypes.CDLL(None, use_errno=True)


def credentials(descriptor: int) -> Credentials:
    """Return the peer of a connected socket.

    Raises OSError.
    """
    pid, uid, gid = _UCRED.unpack(_getsockopt(descriptor, socket.SO_PEERCRED, _UCRED.size))
    groups = _getsockopt(descriptor, _SO_PEERGROUPS, 4 * _GROUPS_AT_FIRST)
    foreign = _is_in_another_user_namespace(pid) and _still_lives(descriptor)
    return Credentials(pid, uid, gid, frozenset(memoryview(groups).cast("I")), foreign)


def is_privileged(who: Credentials) -> bool:
    """Return whether who may see and exceed what belongs to others."""
    return who.uid in (0, os.geteuid())


def _is_in_another_user_namespace(pid: int) -> bool:
    """Return whether a process is seen to be.  Linux: user_namespaces(7)."""
    if not shows_our_numbers():
        return False
    try:
        return not os.path.samestat(os.stat(f"/proc/{pid}/ns/user"), os.stat("/proc/self/ns/user"))
    except OSError:
        return False  # it is gone, or not for us to look at


def _still_lives(descriptor: int) -> bool:
    """Return whether a peer has not ended, so that its pid is no other process's yet.

    True, too, where the kernel cannot tell.
    """
    try:
        pidfd = int.from_bytes(_getsockopt(descriptor, _SO_PEERPIDFD, 4), sys.byteorder)
    except OSError as error:
        return error.errno == errno.ENOPROTOOPT
    try:
        ended = select.poll()  # select() knows no descriptors above 1023
        ended.register(pidfd, select.POLLIN)
        return not ended.poll(0)
    finally:
        os.close(pidfd)


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
