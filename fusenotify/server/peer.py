# SPDX-License-Identifier: GPL-2.0-or-later
"""The credentials of a Unix socket's peer, as they were when it connected.  Linux: unix(7)."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import sys

from fusenotify.credentials import Credentials
from fusenotify.engine.details import Details
from fusenotify.proc import shows_our_numbers

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59  # the socket module has no names for these two options
_SO_PEERPIDFD = 77  # since Linux 6.5
_GROUPS_AT_FIRST = 64

_libc = ctypes.CDLL(None, use_errno=True)


def credentials(descriptor: int) -> Credentials:
    """Return the credentials of the peer of a connected socket.

    Raises OSError.
    """
    pid, uid, gid = _UCRED.unpack(_getsockopt(descriptor, socket.SO_PEERCRED, _UCRED.size))
    groups = _getsockopt(descriptor, _SO_PEERGROUPS, 4 * _GROUPS_AT_FIRST)
    foreign, command = _is_in_another_user_namespace(pid), _command_of(pid)
    if (foreign or command is not None) and not _still_lives(descriptor):
        foreign, command = False, None  # maybe another process's by now
    return Credentials(pid, uid, gid, frozenset(memoryview(groups).cast("I")), foreign, command)


def is_privileged(who: Credentials) -> bool:
    """Return whether the user is root or the daemon's user, who may see and set everything."""
    return who.uid in (0, os.geteuid())


def own_process(details: Details, who: Credentials) -> int:
    """Return the id of the process that connected.

    Raises OSError (EOPNOTSUPP) if the daemon does not see the process, and so cannot tell
    which threads belong to it.
    """
    if not who.pid or details.process_of(who.pid) != who.pid:
        raise OSError(errno.EOPNOTSUPP, "ignore_self: the daemon does not see your process")
    return who.pid


def named(who: Credentials) -> str:
    """Return who a client is, for the log."""
    return f"client {who.pid} ({ascii(who.command or b'')[2:-1]}), user {who.uid},"


def _is_in_another_user_namespace(pid: int) -> bool:
    """Return True if /proc shows that the process is.  Linux: user_namespaces(7)."""
    if not shows_our_numbers():
        return False
    try:
        return not os.path.samestat(os.stat(f"/proc/{pid}/ns/user"), os.stat("/proc/self/ns/user"))
    except OSError:
        return False  # the process is gone, or we may not look at it


def _command_of(pid: int) -> bytes | None:
    """Return the name of what a process runs; None where it cannot be seen."""
    if not (pid and shows_our_numbers()):
        return None
    try:
        with open(f"/proc/{pid}/comm", "rb") as name:
            return name.read().removesuffix(b"\n")
    except OSError:
        return None


def _still_lives(descriptor: int) -> bool:
    """Return whether the peer has not ended, so that its pid belongs to no other process yet.

    Also returns True if the kernel cannot tell.
    """
    try:
        pidfd = int.from_bytes(_getsockopt(descriptor, _SO_PEERPIDFD, 4), sys.byteorder)
    except OSError as error:
        return error.errno == errno.ENOPROTOOPT
    try:
        ended = select.poll()  # select() cannot take descriptors above 1023
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
        if code != errno.ERANGE:  # with ERANGE, length is the needed length now
            raise OSError(code, os.strerror(code))
