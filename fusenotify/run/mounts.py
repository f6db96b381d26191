# SPDX-License-Identifier: GPL-2.0-or-later
"""Which mount of fusenotify an object is in, and a connection to its daemon.

run.calls asks; one supervisor has one connection to each daemon, on which all descriptors
have their devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from fusenotify.client.aio.link import ANYIO
from fusenotify.client.calls import ClientLogic
from fusenotify.client.common import socket_name
from fusenotify.client.locate import SOCKET_XATTR, Opened
from fusenotify.mountinfo import FSTYPE, Mount, parse
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.status import LimitsStatus
from fusenotify.run.target import Target


class Served:
    """A daemon that we are connected to.  limits are its mount's."""

    def __init__(self, client: ClientLogic, limits: LimitsStatus) -> None:
        self.client = client
        self.limits = limits


class Mounts:
    """The mounts whose daemons serve us, by the device number of what is in them."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._served: dict[int, Served] = {}

    async def serving(self, target: Target, opened: Opened) -> Served | None:
        """Return whose mount an object is in; None where the kernel has to serve it."""
        device = os.fstat(opened.number).st_dev
        known = self._served.get(device)
        if known is not None:
            return known
        mount = None if os.major(device) else _mount_of(target, device)
        if mount is None:
            return None
        served = await self._connected(mount, opened)
        if served is not None:
            self._served[device] = served
        return served

    def close(self) -> None:
        """Close the connections."""
        for served in self._served.values():
            served.client.link.close()
        self._served.clear()

    async def _connected(self, mount: Mount, opened: Opened) -> Served | None:
        try:
            client = ClientLogic(await ANYIO.connect(_socket_of(opened, mount)))
            return Served(client, await client.limits())
        except (OSError, ProtocolError) as error:
            where = os.fsdecode(mount.mountpoint)
            self._warn(f"{where}: the kernel's inotify serves it, for its daemon does not: {error}")
            return None

    def forget(self, served: Served) -> None:
        """Hear that a connection is lost: its mount is gone, and its number may be another's."""
        self._served = {number: one for number, one in self._served.items() if one is not served}
        served.client.link.close()


def _mount_of(target: Target, device: int) -> Mount | None:
    """Return the mount of ours, among those that a thread sees, that has this number."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open(target.proc + b"mountinfo", "rb") as file:
        text = file.read()
    # Most lines are not looked at: there may be thousands.
    lines = [line for line in text.splitlines() if FSTYPE.encode() in line]
    found = parse(b"\n".join(lines)) if lines else []
    ours = (mount for mount in found if mount.fstype == FSTYPE and mount.device == number)
    return next(ours, None)


def _socket_of(opened: Opened, mount: Mount) -> str:
    """Return where the daemon listens.

    Raises OSError.
    """
    # Only files and directories have "user" attributes; the mount's root answers for others.
    path = b"/proc/self/fd/%d" % opened.number
    try:
        return socket_name(os.getxattr(path, SOCKET_XATTR))
    except OSError:
        return socket_name(os.getxattr(mount.mountpoint, SOCKET_XATTR))
