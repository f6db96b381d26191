# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify unmount MNT``: unmount a mount and wait for its daemon to end.

This also works for a mount whose daemon has died.  The daemon is the process that
listens on the mount's socket; a pidfd tells when it has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import socket
import struct
import sys

from fusenotify import mountinfo
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import (
    State,
    find,
    id_of,
    remove_dead_socket,
    resolve,
    socket_of,
    state_of,
    take_away,
)
from fusenotify.mounting.settings import default_sockets

# How many seconds a daemon may take to end; its clients read their last events in that time.
_END_SECONDS = 10.0
# How many seconds to wait after a lazy unmount: the daemon ends only with the last open file.
_LAZY_END_SECONDS = 1.0

_SO_PEERPIDFD = 77
_UCRED = struct.Struct("3i")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("mountpoint", metavar="MNT", help="where it is mounted")
    parser.add_argument(
        "-l",
        "--lazy",
        action="store_true",
        help="hide a busy mount now; it ends when nobody uses it any more",
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount, and wait until the daemon is gone."""
    mountpoint = resolve(arguments.mountpoint)
    mount = find(mountpoint)
    if mount is None:
        raise Failure(_not_a_mount(mountpoint))
    which, state = id_of(mount), state_of(mount)
    if state is State.SILENT and not arguments.lazy:
        raise Failure(
            f"{mountpoint}: its daemon does not answer; continue or kill it, or use --lazy"
        )
    with contextlib.ExitStack() as stack:
        daemon = _daemon(mount, stack) if state is State.LIVE else None
        take_away(which, lazy=arguments.lazy or state is State.DEAD)
        if state is State.DEAD:
            for path in default_sockets(mountpoint):
                remove_dead_socket(path)
        if daemon is None:
            return 0
        seconds = _LAZY_END_SECONDS if arguments.lazy else _END_SECONDS
        if select.select([daemon], [], [], seconds)[0]:
            return 0
    if arguments.lazy:
        print("fusenotify: hidden; the daemon ends when all files are closed", file=sys.stderr)
        return 0
    raise Failure(
        f"{mountpoint}: unmounted, but its daemon has not ended within {seconds:g} s: it serves "
        "a copy in another mount namespace (a container's, unshare's) as long as there is one, "
        "or until SIGTERM"
    )


def _not_a_mount(path: str) -> str:
    around = mountinfo.mount_of(os.fsencode(path))
    if around is not None and around.fstype == mountinfo.FSTYPE:
        return f"{path}: not a mount point; the mount around it is {os.fsdecode(around.mountpoint)}"
    return f"{path}: no fusenotify mount is there; 'fusenotify status' lists the mounts"


def _daemon(mount: mountinfo.Mount, stack: contextlib.ExitStack) -> int | None:
    """Return a pidfd of the daemon of a live mount, or None if the daemon cannot be seen."""
    connection = stack.enter_context(socket.socket(socket.AF_UNIX))
    try:
        connection.connect(socket_of(mount))
        pidfd = _peer(connection)
    except OSError:
        # If we may not ask, we unmount without waiting; if we may not unmount, that will fail.
        return None
    if pidfd is not None:
        stack.callback(os.close, pidfd)
    return pidfd


def _peer(connection: socket.socket) -> int | None:
    """Return a pidfd of the process that listens; None for one outside of our pid namespace.

    Raises OSError.
    """
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
    # Before Linux 6.5, by its pid, which another process may have by now.
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid = _UCRED.unpack(credentials)[0]
    return os.pidfd_open(pid) if pid else None
