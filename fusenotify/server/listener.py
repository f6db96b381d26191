# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket on which a mount's clients connect, for trio.

The daemon binds it before it mounts; socket_file makes and removes the file.
"""

from __future__ import annotations

import trio

from fusenotify.socket_file import SocketFile


def bind_socket(where: SocketFile | str, mode: int) -> trio.SocketListener:
    """Listen on a Unix socket with the permissions mode.  where is its file, or its path.

    Raises OSError, as SocketFile and its listen() do.
    """
    if isinstance(where, str):
        with SocketFile(where) as file:
            return bind_socket(file, mode)
    return trio.SocketListener(trio.socket.from_stdlib_socket(where.listen(mode)))
