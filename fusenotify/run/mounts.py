# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the mount of fusenotify that an object is in, and connect to its daemon.

run.calls uses it.  A supervisor has one connection to each daemon; the devices of all
descriptors are on it.

A mount says where its daemon's socket is.  If no daemon answers there, as in a container that sees
the socket elsewhere, FUSENOTIFY_SOCKET is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable

from fusenotify.bits import IN_DELETE_SELF
from fusenotify.client.calls import ClientLogic, ask, unread_of
from fusenotify.client.common import socket_name
from fusenotify.client.locate import SOCKET_VARIABLE, SOCKET_XATTR, Opened
from fusenotify.client.watched import ORDINARY
from fusenotify.mountinfo import FSTYPE, Mount, parse
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.messages import Read, Records
from fusenotify.protocol.status import LimitsStatus
from fusenotify.run.filesystems import device_of
from fusenotify.run.link import Link
from fusenotify.run.target import Target
from fusenotify.run.threads import in_thread


class Served:
    """A daemon that we are connected to, by a link, and the limits of its mount."""

    def __init__(self, link: Link, client: ClientLogic, limits: LimitsStatus) -> None:
        self.link = link
        self.client = client
        self.limits = limits


class Mounts:
    """The mounts whose daemons serve us, by their device numbers (st_dev)."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._served: dict[int, Served] = {}
        self._connecting: dict[int, asyncio.Lock] = {}

    async def serving(self, target: Target, opened: Opened) -> Served | None:
        """Return the daemon whose mount an object is in; None if the kernel has to serve it.

        That is so outside of our mounts, and if the daemon does not answer (a warning says so).
        """
        device = device_of(opened)
        known = self._served.get(device)
        if known is not None:
            return known
        mount = None if os.major(device) else _mount_of(target, device)
        if mount is None:
            return None
        # Two threads may watch the first objects of a mount at the same time.
        async with self._connecting.setdefault(device, asyncio.Lock()):
            if device not in self._served:
                served = await self._connected(target, mount, opened)
                if served is None:
                    return None
                self._served[device] = served
            return self._served[device]

    def close(self) -> None:
        """Close the connections."""
        for served in self._served.values():
            served.link.close()
        self._served.clear()

    async def _connected(self, target: Target, mount: Mount, opened: Opened) -> Served | None:
        try:
            link = await _link(target, opened, mount)
            try:
                await check_that_reads_are_fences(link)
                client = ClientLogic(link)
                return Served(link, client, await client.limits())
            except BaseException:
                link.close()
                raise
        except (OSError, ProtocolError) as error:
            where = os.fsdecode(mount.mountpoint)
            self._warn(f"{where}: the kernel's inotify is used, as the daemon fails: {error}")
            return None

    def forget(self, served: Served) -> None:
        """Drop a connection that was lost.

        Its mount is gone, and another filesystem may get its device number.
        """
        self._served = {number: one for number, one in self._served.items() if one is not served}
        served.link.close()


async def check_that_reads_are_fences(link: Link) -> None:
    """Find out whether a daemon is too old for run.sources.

    Raises OSError (EPROTO).
    """
    with contextlib.suppress(OSError):
        await ask(link, Read(device=0, size=0, timeout=0.0, fence=True), Records)
    link.check()


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


async def _link(target: Target, opened: Opened, mount: Mount) -> Link:
    """Connect to the daemon of the mount that an object is in.

    Raises OSError, ProtocolError.
    """
    try:
        return await Link.connected(await in_thread(_socket_of, target, opened, mount))
    except OSError:
        other = os.environ.get(SOCKET_VARIABLE)
        if not other:
            raise
        link = await Link.connected(other)
        if await _is_served_by(link, opened):
            return link
        link.close()
        raise


async def _is_served_by(link: Link, opened: Opened) -> bool:
    """Return whether an object is in the mount of the daemon that we are connected to."""
    device = await ClientLogic(link).init(None, None, unread_of(False))
    try:
        await device.add_watch(opened, IN_DELETE_SELF, ORDINARY)
    except OSError as error:
        return error.errno != errno.EXDEV
    finally:
        await device.close()
    return True


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
