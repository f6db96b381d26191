# SPDX-License-Identifier: GPL-2.0-or-later
"""The answer that ``fusenotify status`` shows: mount, clients, their devices, statistics.

Root and the daemon's user see everything; other users see only themselves.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata

from fusenotify.admission import Quotas
from fusenotify.credentials import Credentials
from fusenotify.engine import statistics
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.device import DeviceTable
from fusenotify.heard import OFF, Heard
from fusenotify.protocol.messages import (
    Status,
)
from fusenotify.protocol.status import (
    BehindStatus,
    ClientStatus,
    DeviceStatus,
    DirectoryActivity,
    Statistics,
    UserActivity,
    UserStatus,
)
from fusenotify.server.devices import ServedDevice
from fusenotify.server.faults import Faults
from fusenotify.server.history import History
from fusenotify.server.limits import limits_status
from fusenotify.server.peer import is_privileged

# How many of the busiest directories and users are shown.
MOST = 100


def _server_name() -> str:
    try:
        return f"fusenotify {metadata.version('fusenotify')}"
    except metadata.PackageNotFoundError:  # run from a checkout
        return "fusenotify"


# The name that a server gives its clients.  It is looked up now, since the package's files may be
# on the mount that is made later.
SERVER_NAME = _server_name()


def status_for(
    who: Credentials,
    request: int,
    *,
    table: DeviceTable,
    quotas: Quotas,
    mountpoint: bytes,
    source: bytes,
    started: float,
    tasks: int,
    clients: Sequence[tuple[Credentials, Iterable[ServedDevice]]],
    heard: Heard | None = None,
    faults: Faults | None = None,
    history: History | None = None,
) -> Status:
    """Return what the user who may see; request is the id of the answer.

    started is the time.monotonic() at which the mount was made.
    """
    everybody = is_privileged(who)
    seen = [each for each in clients if everybody or each[0].uid == who.uid]
    connections = Counter(client.uid for client, _ in seen)
    users = table.users.all() if everybody else ()
    status = Status(
        id=request,
        server=SERVER_NAME,
        pid=os.getpid(),
        semantics=table.policy.name,
        mountpoint=mountpoint,
        source=source,
        uptime=time.monotonic() - started,
        tasks=tasks,
        limits=limits_status(table.limits, quotas),
        clients=[
            ClientStatus(
                pid=client.pid,
                uid=client.uid,
                devices=[*map(_device_status, devices)],
                foreign=client.foreign,
                command=client.command,
            )
            for client, devices in seen
        ],
        users=[
            UserStatus(
                uid=uid,
                watches=table.users.counts(uid).watches,
                trees=table.users.counts(uid).trees,
                devices=table.users.counts(uid).devices,
                connections=connections[uid],
            )
            for uid in sorted({*users, *connections})
        ],
        # Only users who may read all directories may see their names.
        statistics=_statistics(table.statistics) if everybody else None,
    )
    if history is not None and everybody:
        status.journal = history.status()
    if heard is not None and heard.wanted != OFF:
        status.behind = BehindStatus(**heard._asdict())
    if faults is not None:
        status.faults = faults.status({served.number for _, devices in seen for served in devices})
    return status


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
        trees=sum(watch.tree for watch in device.watches()),
        overflows=device.overflows,
        merged=device.merged,
        lost=device.lost,
        detailed=isinstance(device, DetailedDevice),
    )
