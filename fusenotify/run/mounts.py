# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the mount of fusenotify that an object is in, and connect to its daemon.

run.calls uses it.  A supervisor has one connection to each daemon; the devices of all
descriptors are on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from fusenotify.client.calls import ClientLogic
from fusenotify.client.common import socket_name
from fusenotify.client.locate import SOCKET_XATTR, Opened
from fusenotify.mountinfo import FSTYPE, Mount, parse
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.status import LimitsStatus
from fusenotify.run.link import Link
from fusenotify.run.target import Target


class Served:
    """A daemon that we are connected to, and the limits of its mount."""

    def __init__(self, client: ClientLogic, limits: LimitsStatus) -> None:
        self.client = client
        self.limits = limits


class Mounts:
    """The mounts whose daemons serve us, by their device numbers (st_dev)."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._served: dict[int, Served] = {}

    async def serving(self, target: Target, opened: Opened) -> Served | None:
        """Return the daemon whose mount an object is in; None if the kernel has to serve it.

        That is so outside of our mounts, and if the daemon does not answer (a warning says so).
        """
        device = os.fstat(opened.number).st_dev
        known = self._served.get(device)
        if known is not None:
            return known
        mount = None if os.major(device) else _mount_of(target, device)
        if mount is None:
            return None
        served = await self._connected(target, mount, opened)
        if served is not None:
            self._served[device] = served
        return served

    def close(self) -> None:
        """Close the connections."""
        for served in self._served.values():
            served.client.link.close()
        self._served.clear()

    async def _connected(self, target: Target, mount: Mount, opened: Opened) -> Served | None:
        try:
            client = ClientLogic(await Link.connected(_socket_of(target, opened, mount)))
            return Served(client, await client.limits())
        except (OSError, ProtocolError) as error:
            where = os.fsdecode(mount.mountpoint)
            self._warn(f"{where}: the kernel's inotify is used, as the daemon fails: {error}")
            return None

    def forget(self, served: Served) -> None:
        """Drop a connection that was lost.

        Its mount is gone, and another filesystem may get its device number.
        """
        self._served = {number: one for number, one in self._served.items() if one is not served}
        served.client.link.close()


def _mount_of(target: Target, device: int) -> Mount | None:
    """Return the mount of fusenotify with a device number, as a thread sees it; None if none."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open(target.proc + b"mountinfo", "rb") as file:
        text = file.read()
    # There may be thousands of lines; only those of our type are parsed.
    lines = [line for line in text.splitlines() if FSTYPE.encode() in line]
    found = parse(b"\n".join(lines)) if lines else []
    ours = (mount for mount in found if mount.fstype == FSTYPE and mount.device == number)
    return next(ours, None)


def _socket_of(target: Target, opened: Opened, mount: Mount) -> str:
    """Return the address of the socket on which the mount's daemon listens.

    Raises OSError.
    """
    # Only files and directories have "user" attributes; the mount's root answers for others.
    path = b"/proc/self/fd/%d" % opened.number
    try:
        return socket_name(os.getxattr(path, SOCKET_XATTR))
    except OSError:
        return socket_name(os.getxattr(target.proc + b"root" + mount.mountpoint, SOCKET_XATTR))
