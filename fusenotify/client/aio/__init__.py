# SPDX-License-Identifier: GPL-2.0-or-later
"""The async client, for asyncio and trio: the classes of fusenotify.client with ``async``.

    async with Client("/run/fusenotify/x.sock") as client: ...
    async with Inotify() as inotify: await inotify.add_watch("/mnt/x", IN_CREATE)

A client belongs to the event loop in which it was connected; its tasks may
share it.
"""

from fusenotify.client.aio.inotify import Inotify
from fusenotify.client.aio.syscalls import Client, Device
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent
from fusenotify.protocol.connection import ConnectionLost
from fusenotify.protocol.details import DetailedEvent

__all__ = [
    "Client",
    "ConnectionLost",
    "DetailedEvent",
    "DetailedInotifyEvent",
    "Device",
    "Inotify",
    "InotifyEvent",
]
