# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify status`` shows: the mount, its clients, their devices, the statistics.

Root and the daemon's user see everything; others see themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from importlib import metadata

from fusenotify.credentials import Credentials
from fusenotify.engine import statistics
from fusenotify.engine.device import DeviceTable
from fusenotify.protocol.messages import (
    ClientStatus,
    DeviceStatus,
    DirectoryActivity,
    LimitsStatus,
    Statistics,
    Status,
    UserActivity,
    UserStatus,
)
from fusenotify.server.devices import ServedDevice
from fusenotify.server.peer import is_privileged

# How many of the busiest directories and users are shown.
MOST = 100


def server_name() -> str:
    """Return the name and version that a server tells its clients."""
    try:
        return f"fusenotify {metadata.version('fusenotify')}"
    except metadata.PackageNotFoundError:  # run from a checkout
        return "fusenotify"


def status_for(
    who: Credentials,
    request: int,
    *,
    table: DeviceTable,
    mountpoint: bytes,
    source: bytes,
    started: float,
    clients: Iterable[tuple[Credentials, Iterable[ServedDevice]]],
) -> Status:
    """Return what who may see.  started is of time.monotonic()."""
    everybody = is_privileged(who)
    limits = table.limits
    return Status(
        id=request,
        server=server_name(),
        pid=os.getpid(),
        semantics=table.policy.name,
        mountpoint=mountpoint,
        source=source,
        uptime=time.monotonic() - started,
        limits=LimitsStatus(
            max_queued_events=limits.max_queued_events,
            max_user_instances=limits.max_user_instances,
            max_user_watches=limits.max_user_watches,
        ),
        clients=[
            ClientStatus(pid=client.pid, uid=client.uid, devices=[*map(_device_status, devices)])
            for client, devices in clients
            if everybody or client.uid == who.uid
        ],
        users=[
            UserStatus(uid=uid, watches=counts.watches, devices=counts.devices)
            for uid, counts in sorted(table.users.all().items())
            if everybody or uid == who.uid
        ],
        # The names of directories are for those who may read them all.
        statistics=_statistics(table.statistics) if everybody else None,
    )


def _statistics(counted: statistics.Statistics) -> Statistics:
    return Statistics(
        events=counted.events(),
        directories=[
            DirectoryActivity(path=path, events=events)
            for path, events in counted.directories(MOST)
        ],
        users=[UserActivity(uid=uid, events=events) for uid, events in counted.users(MOST)],
        overflows=counted.overflows,
        merged=counted.merged,
        lost=counted.lost,
    )


def _device_status(served: ServedDevice) -> DeviceStatus:
    device = served.device
    return DeviceStatus(
        device=served.number,
        uid=device.uid,
        semantics=device.policy.name,
        queued=device.queued(),
        max_queued_events=device.max_events,
        watches=sum(1 for _ in device.watches()),
        overflows=device.overflows,
        merged=device.merged,
        lost=device.lost,
    )
