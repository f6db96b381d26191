# SPDX-License-Identifier: GPL-2.0-or-later
"""``-o remount``: the words of an existing mount, some of them changed.

mount(8) passes all words of a line of fstab, together with the changes.  mounting.remount changes
the kernel's flags, limits are set as by ``fusenotify limits``, and all other settings must be
those that the daemon has.  These are found in its command line, which the kernel keeps.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct

from fusenotify.cli.counts import LIMITS
from fusenotify.cli.mount_settings import declare
from fusenotify.cli.words import Settings, TakeWords
from fusenotify.client import Client
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import State, find, resolve, socket_of, state_of
from fusenotify.mounting.remount import remount

_UCRED = struct.Struct("3i")


def change(arguments: argparse.Namespace) -> None:
    """Change the mount that the arguments of ``fusenotify mount`` name.

    Raises Failure, OSError.  If a word is refused, nothing is changed.
    """
    path = resolve(arguments.mountpoint or arguments.source)
    limits = {}
    if arguments.said:
        listening = _socket(path)
        limits = _limits_to_set(path, listening, arguments.said)
    remount(path, arguments.options, whole=arguments.by_mount8)
    if limits:
        with Client(listening) as client:
            client.set_limits(**limits)


def _socket(path: str) -> str:
    mount = find(path)
    if mount is None:
        raise Failure(f"{path}: no fusenotify mount is there")
    if state_of(mount) is not State.LIVE:
        raise Failure(f"{path}: its daemon does not answer; nothing is changed")
    return socket_of(mount)


def _limits_to_set(path: str, listening: str, said: list[str]) -> dict[str, int]:
    """Return the given limits; raise Failure for other settings that differ from the daemon's."""
    settings, wanted = Settings(), argparse.Namespace()
    words = {settings.take(word, wanted): word for word in said}
    if not words.keys() <= LIMITS.keys():
        has = _told(path, listening)
        for name, word in words.items():
            if name not in LIMITS and getattr(wanted, name) != getattr(has, name):
                raise Failure(f"{path}: '{word}' cannot be changed by a remount; unmount it first")
    return {name: getattr(wanted, name) for name in words if name in LIMITS}


def _told(path: str, listening: str) -> argparse.Namespace:
    """Return the settings with which the daemon at a socket was started."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(listening)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid = _UCRED.unpack(credentials)[0]
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = [os.fsdecode(part) for part in file.read().split(b"\0")[:-1]]
    except OSError:
        raise Failure(
            f"{path}: its daemon is in another pid namespace, so its settings cannot be seen; "
            "leave settings out"
        ) from None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-o", dest="options", action=TakeWords, default=[])
    declare(parser)
    return parser.parse_known_args(command[command.index("mount") + 1 :])[0]
