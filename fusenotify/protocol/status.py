# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the answer to a status request, which is messages.Status."""

from __future__ import annotations

import msgspec

from fusenotify.protocol.faults import LastingFault


class DeviceStatus(msgspec.Struct, kw_only=True):
    """A device: its queue now, and counts since it was made.

    queued and max_queued_events are numbers of events.  watches counts the
    watches, trees the tree watches among them, overflows the IN_Q_OVERFLOW
    records, merged and lost the events that were dropped.  detailed is that of
    Init.
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
    """A connection, with the process that made it.

    pid is 0 if the daemon cannot see the process.  foreign says that the process is in
    another user namespace than the daemon.  command is what it ran when it connected (comm
    in proc(5)), None if that is not known.
    """

    pid: int
    uid: int
    devices: list[DeviceStatus]
    foreign: bool = False
    command: bytes | None = None


class UserStatus(msgspec.Struct, kw_only=True):
    """The counts of a user, to which the limits apply."""

    uid: int
    watches: int
    trees: int = 0
    devices: int
    connections: int


class LimitsStatus(msgspec.Struct, kw_only=True):
    """The limits of the mount.

    max_user_connections and max_waiting_requests are those of Quotas.
    max_request_bytes and max_answer_bytes are the most bytes in a frame, after the
    length.
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
    """The number of events in a directory.  path is the path from the mount's root."""

    path: bytes
    events: int


class UserActivity(msgspec.Struct, kw_only=True):
    """The number of events that a user caused."""

    uid: int
    events: int


class Statistics(msgspec.Struct, kw_only=True):
    """Counts of the events of watched objects since the mount was made.

    events has the number of events by type; types have the names of inotify(7)
    without ``IN_``.  directories and users are the busiest ones, the busiest first.
    overflows, merged and lost are as in DeviceStatus, for all devices, including
    closed ones.
    """

    events: dict[str, int]
    directories: list[DirectoryActivity]
    users: list[UserActivity]
    overflows: int
    merged: int
    lost: int


class JournalStatus(msgspec.Struct, kw_only=True):
    """The journal of the mount.

    path is its file, id the journal's own.  Its entries have the numbers from oldest to
    last, and take about size bytes.  lost counts the changes that are missing since the
    mount was made; failure says why the file cannot be written now, or is None.
    """

    path: bytes
    id: str
    oldest: int
    last: int
    size: int
    lost: int
    failure: str | None


class BehindStatus(msgspec.Struct, kw_only=True):
    """What is heard of changes behind the mount; heard.Heard describes the fields."""

    wanted: str
    hears: str
    why_not: str = ""
    marks: int = 0
    records: int = 0
    echoes: int = 0
    told: int = 0
    overflows: int = 0
    mended: int = 0
    forgotten: int = 0


class FaultStatus(msgspec.Struct, kw_only=True):
    """A lasting fault, with its remaining count.  Without a device it is one of the mount."""

    device: int | None
    fault: LastingFault
