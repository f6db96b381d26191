# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of the protocol: requests mirror the syscalls, answers their results.

codec puts them into frames; server.session answers requests; connection
numbers the requests and matches the answers.  In a frame each message is a map,
and the value of ``type`` is its tag.  Paths, names and records are bytes.

Invariants
    The schema refuses a message of the wrong shape, which ends the connection;
        a message of the right shape with a wrong value is answered with an
        errno.
    A request with a field that the server does not know is refused, so that a
        client notices when the server cannot do what it asks; fields with their
        default value are left out.  Answers may get new fields.
"""

from __future__ import annotations

import msgspec

from fusenotify.events import MOST_BYTES
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.faults import AnyFault
from fusenotify.protocol.past import PastEvent
from fusenotify.protocol.status import (
    BehindStatus,
    ClientStatus,
    FaultStatus,
    JournalStatus,
    LimitsStatus,
    Statistics,
    UserStatus,
)

VERSION = 1

# The most bytes in a path, including the NUL at its end.  Linux: PATH_MAX.
PATH_MAX = 4096

# The most bytes of records in one answer.  A larger read gets no more than that.
MAX_READ = MOST_BYTES

# The most bytes in a frame, after the length.
MAX_REQUEST_FRAME = 64 * 1024
MAX_ANSWER_FRAME = MAX_READ + 64 * 1024

# The id of an error that does not answer a request, but ends the connection.
NO_REQUEST = 0


class Request(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True, eq=True):
    """A client's request.

    id is a number that the client chooses, 1 or more; no two requests under way have the same.
    """

    id: int = NO_REQUEST


class Hello(Request, tag="hello", forbid_unknown_fields=False):
    """The first request of a connection, and only the first.  Answered by Welcome.

    Later versions may add fields; the server ignores unknown ones here, so that it can
    answer that the version is too new.
    """

    version: int


class Init(Request, tag="init", omit_defaults=True):
    """inotify_init(2): make a device.  Answered by DeviceMade.

    max_queued_events and semantics default to the mount's.  detailed asks for a device
    that answers reads with Events instead of Records.
    """

    max_queued_events: int | None = None
    semantics: str | None = None
    detailed: bool = False


class AddWatch(Request, tag="add_watch", omit_defaults=True):
    """inotify_add_watch(2).  Answered by WatchAdded.

    path is relative to the mount's root, with or without a leading slash.  It is
    None for an object without a name; an O_PATH descriptor of the object is then
    passed with the request (SCM_RIGHTS).  tree asks for a tree watch, on a
    directory and everything that is or will be below it.  exclude has patterns
    of names whose events are left out: lines of a .gitignore file in the watched
    directory.  ignore_self leaves out the events that the connected process causes.
    past asks which events of the journal were before the watch.
    """

    device: int
    path: bytes | None
    mask: int
    tree: bool = False
    exclude: list[bytes] = []
    ignore_self: bool = False
    past: bool = False


class RmWatch(Request, tag="rm_watch"):
    """inotify_rm_watch(2).  Answered by Done."""

    device: int
    wd: int


class Read(Request, tag="read", omit_defaults=True):
    """read(2).  Answered by Records, or by Events if the device is detailed.

    size is in bytes.  Waits at most timeout seconds for the first event; with None it waits
    for ever, with 0 not at all.  With fence, it first waits as Sync does.
    """

    device: int
    size: int
    timeout: float | None = None
    fence: bool = False


class Poll(Request, tag="poll"):
    """poll(2) for POLLIN.  Answered by Ready.  timeout is as in Read."""

    device: int
    timeout: float | None = None


class Fionread(Request, tag="fionread"):
    """ioctl(FIONREAD).  Answered by Count."""

    device: int


class Close(Request, tag="close"):
    """close(2).  Answered by Done."""

    device: int


class Sync(Request, tag="sync"):
    """A fence.  Answered by Done.

    It is answered after the events of everything done through the mount before the request
    was sent are queued.
    """


class Stream(Request, tag="stream"):
    """Reads without further requests.  Answered by any number of Records or Events, then by Error.

    Each answer has at most size bytes, and is made when the socket took the one before.
    """

    device: int
    size: int


class Cancel(Request, tag="cancel"):
    """End a read, poll or stream, which is then answered by the error ECANCELED.

    Answered by Done, even if there is no such request or it was answered already.
    """

    request: int


class StatusOf(Request, tag="status"):
    """Ask for Status."""


class CursorOf(Request, tag="cursor", omit_defaults=True):
    """Ask for the place in the journal behind what was done before.  Answered by CursorIs.

    With a time, in ns since 1970, it is the place before the first change that is not older.
    """

    time: int | None = None


class Since(Request, tag="since", omit_defaults=True):
    """Ask for what happened behind a cursor at and below a path.  Answered by Past.

    path is relative to the mount's root, and taken as it is: no symbolic link is followed.
    The answer has at most size bytes of events (PastEvent.size).  Where there are none it
    waits for the first one for timeout seconds; None waits for ever.  exclude and ignore_self
    are those of AddWatch.
    """

    cursor: str
    path: bytes
    size: int
    timeout: float | None = 0.0
    exclude: list[bytes] = []
    ignore_self: bool = False


class LimitsOf(Request, tag="limits", omit_defaults=True):
    """Set the limits that are given, and ask for all limits.  Answered by LimitsAre.

    Only root and the daemon's user may set limits; either all that are given are set, or
    none.  Users who are above a new limit keep what they have and are refused more; a
    device keeps the length of its queue.
    """

    max_queued_events: int | None = None
    max_user_instances: int | None = None
    max_user_watches: int | None = None
    max_user_trees: int | None = None


class Notify(Request, tag="notify", omit_defaults=True):
    """Report a change of SOURCE at a path that no kernel reports.  Answered by Done.

    what has bits of IN_CREATE, IN_DELETE, IN_MODIFY, IN_ATTRIB and IN_CLOSE_WRITE; with 0,
    the daemon finds out what has changed.  For root and the daemon's user.
    """

    path: bytes
    what: int = 0


class CauseFault(Request, tag="fault"):
    """Cause a fault, for a test, on a mount that was made with --faults.  Answered by Done.

    device is a device's number; on such a mount no two devices have the same.  Without
    it, the fault is for all devices, and a lasting one also for later devices.
    """

    fault: AnyFault
    device: int | None = None


class ActivityOf(Request, tag="activity"):
    """Ask what was done in the mount since a time, in ns since 1970.  Answered by Events.

    For root and the daemon's user, where the mount remembers it for a test's
    report.  wd is 0 and paths are from the root, whoever watches what.
    """

    since: int = 0


class Answer(msgspec.Struct, tag_field="type", kw_only=True):
    """A server's answer.  id is that of the request."""

    id: int


class Welcome(Answer, tag="welcome"):
    """Answers Hello.  pid is the daemon's, server its name and version."""

    version: int
    semantics: str
    mountpoint: bytes
    pid: int
    server: str


class DeviceMade(Answer, tag="device"):
    """A new device.  Its number is unique in the connection, and is not used again."""

    device: int


class WatchAdded(Answer, tag="watch", omit_defaults=True):
    """A watch descriptor, and the number of the journal's last entry before the watch, if asked."""

    wd: int
    past: int | None = None


class Records(Answer, tag="records"):
    """Whole records of ``struct inotify_event``, in the byte order of the daemon's machine."""

    data: bytes


class Events(Answer, tag="events"):
    """The events of a detailed device, oldest first."""

    events: tuple[DetailedEvent, ...]


class Ready(Answer, tag="ready"):
    """Whether there is something to read."""

    ready: bool


class Count(Answer, tag="count"):
    """How many bytes a read could return, of records or of events (DetailedEvent.size)."""

    bytes: int


class LimitsAre(Answer, tag="limits"):
    """The limits of the mount, as they are now."""

    limits: LimitsStatus


class CursorIs(Answer, tag="cursor"):
    """A place in the journal."""

    cursor: str


class Past(Answer, tag="past"):
    """What the journal has, oldest first, and the place behind it, from which to go on.

    complete says that there was no more.
    """

    events: tuple[PastEvent, ...]
    cursor: str
    complete: bool


class Done(Answer, tag="done"):
    """The request was carried out; there is no result."""


class Error(Answer, tag="error"):
    """A refusal.  errno is Linux's number, message a sentence for a human reader.

    With the id NO_REQUEST, the server refuses the connection, as after a violation of the
    protocol; it closes the connection after this.
    """

    errno: int
    message: str


class Status(Answer, tag="status"):
    """The mount and its clients.  uptime is in seconds, server is as in Welcome.

    tasks is the number of tasks in the daemon: some for the mount, one or more per
    connection.

    In clients and users, root and the daemon's user see everybody; other users see
    only themselves, and no statistics.  If the mount was made with --faults, faults
    has the lasting faults of the mount and of the devices that are shown.  journal is
    there if the mount keeps one, for root and the daemon's user, behind if changes
    behind the mount are to be heard.
    """

    server: str
    pid: int
    semantics: str
    mountpoint: bytes
    source: bytes
    uptime: float
    tasks: int
    limits: LimitsStatus
    clients: list[ClientStatus]
    users: list[UserStatus]
    statistics: Statistics | None = None
    behind: BehindStatus | None = None
    faults: list[FaultStatus] | msgspec.UnsetType = msgspec.UNSET
    journal: JournalStatus | msgspec.UnsetType = msgspec.UNSET


AnyRequest = (
    Hello
    | Init
    | AddWatch
    | RmWatch
    | Read
    | Poll
    | Fionread
    | Close
    | Sync
    | Stream
    | Cancel
    | StatusOf
    | CursorOf
    | Since
    | LimitsOf
    | Notify
    | CauseFault
    | ActivityOf
)
AnyAnswer = (
    Welcome
    | DeviceMade
    | WatchAdded
    | Records
    | Events
    | Ready
    | Count
    | LimitsAre
    | CursorIs
    | Past
    | Done
    | Status
    | Error
)
