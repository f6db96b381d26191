# SPDX-License-Identifier: GPL-2.0-or-later
"""What the answer to a status request is made of: messages.Status has all of it."""

from __future__ import annotations

import msgspec

from fusenotify.protocol.faults import LastingFault


class DeviceStatus(msgspec.Struct, kw_only=True):
    """A device: what is queued now, and what happened since it was made.

    trees counts those of the watches that are tree watches, overflows the
    IN_Q_OVERFLOW records, merged and lost the events that were dropped.
    detailed is that of Init.
    """

    device: int
    uid: int
    semantics: str
    queued: int
    max_queued_events: int
    watches: int
    trees: int = 0
    overflows: int
    merged: int
    lost: int
    detailed: bool = False


class ClientStatus(msgspec.Struct, kw_only=True):
    """A connection, by the process that made it.  pid is 0 where it cannot be seen.

    foreign says that the process is in another user namespace than the daemon.
    """

    pid: int
    uid: int
    devices: list[DeviceStatus]
    foreign: bool = False


class UserStatus(msgspec.Struct, kw_only=True):
    """What counts against a user's limits."""

    uid: int
    watches: int
    trees: int = 0
    devices: int
    connections: int


class LimitsStatus(msgspec.Struct, kw_only=True):
    """The limits of the mount.

    max_user_connections and max_waiting_requests are those of Quotas; the
    bytes are what a frame may have behind its length.
    """

    max_queued_events: int
    max_user_instances: int
    max_user_watches: int
    max_user_trees: int = 0
    max_user_connections: int
    max_waiting_requests: int
    max_request_bytes: int
    max_answer_bytes: int


class DirectoryActivity(msgspec.Struct, kw_only=True):
    """How many events there were in a directory.  path is from the mount's root."""

    path: bytes
    events: int


class UserActivity(msgspec.Struct, kw_only=True):
    """How many events a user caused."""

    uid: int
    events: int


class Statistics(msgspec.Struct, kw_only=True):
    """What happened to watched objects since the mount was made.

    events are counted by type, named as in inotify(7) without ``IN_``.
    directories and users are the busiest, in this order.  overflows, merged
    and lost are as in DeviceStatus, of all devices there were.
    """

    events: dict[str, int]
    directories: list[DirectoryActivity]
    users: list[UserActivity]
    overflows: int
    merged: int
    lost: int


class FaultStatus(msgspec.Struct, kw_only=True):
    """A fault that lasts, with what is left of its count.  Without a device it is the mount's."""

    device: int | None
    fault: LastingFault
