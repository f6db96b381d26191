# SPDX-License-Identifier: GPL-2.0-or-later
"""Watch a mount.  fusenotify.client.aio has the same classes with ``async``.

Client and Device mirror the syscalls, over a socket that the caller names;
Inotify takes ordinary paths and finds the socket itself.
"""

from fusenotify.client.blocking import Client, Device
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent
from fusenotify.client.inotify import Inotify
from fusenotify.protocol.connection import ConnectionLost
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.past import PastEvent

__all__ = [
    "Client",
    "ConnectionLost",
    "DetailedEvent",
    "DetailedInotifyEvent",
    "Device",
    "Inotify",
    "InotifyEvent",
    "PastEvent",
]
