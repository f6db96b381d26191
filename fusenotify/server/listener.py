# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket on which a mount's clients connect.

The daemon binds it before it mounts and unlinks it at its end; this module
also removes what a daemon that was killed left.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

import trio

# Linux: sun_path has 108 bytes, with the NUL.
_LONGEST_PATH = 107
_BACKLOG = 128


def bind_socket(path: str, mode: int) -> trio.SocketListener:
    """Listen on a Unix socket at path whose permissions are mode.

    Who may write to the socket may connect.  The directory that path is in is
    made where it is missing: for root open to all, else for the user alone.

    Raises OSError: EADDRINUSE where somebody listens at path, EEXIST where
    path is something other than a socket, ENAMETOOLONG.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OSError(
            errno.ENAMETOOLONG,
            f"a socket's path has at most {_LONGEST_PATH} bytes; choose another one with --socket",
            path,
        )
    if directory := os.path.dirname(path):
        os.makedirs(directory, mode=0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before bind(), so that it is at no time open to more than it will be.
        os.fchmod(listener.fileno(), mode)
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(error.errno, error.strerror, path) from None
            _remove_dead_socket(path)
            listener.bind(path)
        os.chmod(path, mode)  # what the umask took
        listener.listen(_BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    except BaseException:
        listener.close()
        raise


def _remove_dead_socket(path: str) -> None:
    """Unlink the socket at path if nobody listens there.

    Raises OSError (EADDRINUSE, EEXIST).
    """
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "there is something that is no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is a listener too
        result = probe.connect_ex(path)
    if result == errno.ECONNREFUSED:
        os.unlink(path)
    elif result != errno.ENOENT:
        raise OSError(errno.EADDRINUSE, "another daemon listens there", path)
