# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of the protocol: requests mirror the syscalls, answers what they return.

codec puts them into frames; server.session answers requests; connection
numbers them and matches the answers.  On the wire each message is a map whose
``type`` is the tag.  Paths, names and records are bytes.

Invariants
    The schema refuses what has the wrong shape, and that ends the connection;
        what has the right shape and the wrong value is answered with an errno.
    A request with a field that the server does not know is refused: a client
        that asks for more than there is must hear so.  Answers may grow.
"""

from __future__ import annotations

import msgspec

from fusenotify.events import MOST_BYTES
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.faults import AnyFault
from fusenotify.protocol.status import (
    ClientStatus,
    FaultStatus,
    LimitsStatus,
    Statistics,
    UserStatus,
)

VERSION = 1

# What a path may have, with its NUL.  Linux: PATH_MAX.
PATH_MAX = 4096

# The most bytes of records in one answer; a read that asks for more gets them in several.
MAX_READ = MOST_BYTES

# The most bytes in a frame, behind the length.
MAX_REQUEST_FRAME = 64 * 1024
MAX_ANSWER_FRAME = MAX_READ + 64 * 1024

# The id of an error that answers no request but ends the connection.
NO_REQUEST = 0


class Request(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True, eq=True):
    """What a client asks.  id is the client's number, 1 or more, unique among those under way."""

    id: int = NO_REQUEST


class Hello(Request, tag="hello", forbid_unknown_fields=False):
    """The first request, and only the first.  Answered by Welcome.

    Later versions may say more in it, so that a version too new is answered as such.
    """

    version: int


class Init(Request, tag="init", omit_defaults=True):
    """inotify_init(2): make a device.  Answered by DeviceMade.

    max_queued_events and semantics default to the mount's.  detailed asks for one
    that gives Events in place of Records.
    What is not wanted is left out, which earlier servers understand.
    """

    max_queued_events: int | None = None
    semantics: str | None = None
    detailed: bool = False


class AddWatch(Request, tag="add_watch", omit_defaults=True):
    """inotify_add_watch(2).  Answered by WatchAdded.

    path is relative to the mount's root, with or without a leading slash.  None
    is for an object without a name: then an O_PATH descriptor of it is passed
    with the request (SCM_RIGHTS).  tree asks for a tree watch, on a directory
    and all that is or will be below it.  exclude are patterns of names that are
    not told of, lines of a .gitignore file in the watched directory.
    ignore_self: what the process that connected does itself is not told of.
    What is not wanted is left out, which earlier servers understand.
    """

    device: int
    path: bytes | None
    mask: int
    tree: bool = False
    exclude: list[bytes] = []
    ignore_self: bool = False


class RmWatch(Request, tag="rm_watch"):
    """inotify_rm_watch(2).  Answered by Done."""

    device: int
    wd: int


class Read(Request, tag="read"):
    """read(2).  Answered by Records, or by Events where the device is detailed.

    Waits for the first event for timeout seconds; None waits for ever and 0 not at all.
    """

    device: int
    size: int
    timeout: float | None = None


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

    What was done through the mount before the request was sent is queued
    before it is answered.
    """


class Stream(Request, tag="stream"):
    """Reads without asking again.  Answered by any number of Records or Events, at last by Error.

    Each has at most size bytes, and is made when the socket took the one before.
    """

    device: int
    size: int


class Cancel(Request, tag="cancel"):
    """End a read, poll or stream: it is answered by the error ECANCELED.  Answered by Done.

    A request that is not there, or was answered meanwhile, is no error.
    """

    request: int


class StatusOf(Request, tag="status"):
    """Ask for Status."""


class LimitsOf(Request, tag="limits", omit_defaults=True):
    """Ask for the limits, once those that are named here are set.  Answered by LimitsAre.

    Setting is for root and the daemon's user, and for all that are named or
    none.  A limit below what a user has refuses only what is new; a device
    keeps the queue that it was made with.
    """

    max_queued_events: int | None = None
    max_user_instances: int | None = None
    max_user_watches: int | None = None
    max_user_trees: int | None = None


class CauseFault(Request, tag="fault"):
    """Cause a fault, for a test, where the mount was made with --faults.  Answered by Done.

    For one device by its number, which then is the mount's, or without one
    for all there are; what lasts is also for those to come.
    """

    fault: AnyFault
    device: int | None = None


class Answer(msgspec.Struct, tag_field="type", kw_only=True):
    """What a server answers.  id is the request's."""

    id: int


class Welcome(Answer, tag="welcome"):
    """Who serves.  pid is the daemon's, server its name and version."""

    version: int
    semantics: str
    mountpoint: bytes
    pid: int
    server: str


class DeviceMade(Answer, tag="device"):
    """A new device.  Numbers are the connection's own, and are not used again."""

    device: int


class WatchAdded(Answer, tag="watch"):
    """A watch descriptor."""

    wd: int


class Records(Answer, tag="records"):
    """Whole records of ``struct inotify_event``, in the byte order of the daemon's machine."""

    data: bytes


class Events(Answer, tag="events"):
    """What a detailed device gives, oldest first."""

    events: tuple[DetailedEvent, ...]


class Ready(Answer, tag="ready"):
    """Whether a read would find something."""

    ready: bool


class Count(Answer, tag="count"):
    """How many bytes a read could give, of records or of events (DetailedEvent.size)."""

    bytes: int


class LimitsAre(Answer, tag="limits"):
    """The limits of the mount, as they are now."""

    limits: LimitsStatus


class Done(Answer, tag="done"):
    """It is done, and there is no more to say."""


class Error(Answer, tag="error"):
    """A refusal.  errno is Linux's number, message a sentence for a human.

    With id NO_REQUEST the client violated the protocol; the server closes the
    connection behind it.
    """

    errno: int
    message: str


class Status(Answer, tag="status"):
    """The mount and its clients.  uptime is in seconds, server is as in Welcome.

    tasks are the daemon's own: some for the mount, one or more per connection.

    Root and the daemon's user see everybody in clients and users; others see
    themselves, and no statistics.  faults is there where the mount was made
    with --faults: what lasts, of the mount and of the devices that are shown.
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
    faults: list[FaultStatus] | msgspec.UnsetType = msgspec.UNSET


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
    | LimitsOf
    | CauseFault
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
    | Done
    | Status
    | Error
)
