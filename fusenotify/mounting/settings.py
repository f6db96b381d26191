# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mount was asked to be: the values between the command line and the daemon.

cli.mount fills it in, mounting.checks refuses what cannot be, mounting.daemon carries it
out.  What a command needs to fill it in, it finds here.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from fusenotify.admission import Admission, Quotas
from fusenotify.engine.limits import MOST, Limits
from fusenotify.engine.policy import LINUX_6, SEMANTICS
from fusenotify.history.bounds import CHANGES, Bounds
from fusenotify.view import View

__all__ = [
    "ACCESSES",
    "CHANGES",
    "LINUX_6",
    "MOST",
    "POLL_MICROSECONDS",
    "SEMANTICS",
    "Bounds",
    "JournalSettings",
    "Limits",
    "Settings",
    "default_sockets",
    "socket_directory",
    "state_directory",
]

# Bytes of the mount point's name that a default socket's name keeps.  An
# AF_UNIX path has room for 107 in all.
_NAME_BYTES = 32
# Daemons of one mount point, all of them living, that find a default name.
_MOST_SOCKETS = 100

# How reads are told: at least once per open file that reads, or each one.
ACCESSES = ("open", "exact")
# How long the daemon looks for the next request of a busy stream.
POLL_MICROSECONDS = 60


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The journal of a mount (history.journal).

    path is absolute, or None for one in the user's state directory.  events are the bits that
    are kept.  With synced, what is kept survives a power failure.
    """

    path: str | None = None
    bounds: Bounds = field(default_factory=Bounds)
    events: int = CHANGES
    synced: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """One mount.

    source and mountpoint are absolute, and equal for a mount in place; wanted_socket is,
    too, where one was said.  options are FUSE's, one ``-o`` word each.  access is
    one of ACCESSES.  poll is how long, in microseconds, the daemon looks for the
    next request of a busy stream before it sleeps.  wanted_socket_mode is
    the socket's permissions, where they were said.  view is how SOURCE is shown,
    by options too.  faults lets testers cause some.  journal is what is kept of changes, if
    anything is.
    activity is how many of the latest operations are remembered, for a test's report.
    log_level is a level's name in logging, log_file an absolute path, None for stderr or syslog.
    """

    source: str
    mountpoint: str
    wanted_socket: str | None = None
    options: tuple[str, ...] = ()
    semantics: str = LINUX_6.name
    access: str = ACCESSES[0]
    poll: int = POLL_MICROSECONDS
    limits: Limits = field(default_factory=Limits)
    quotas: Quotas = field(default_factory=Quotas)
    admission: Admission = field(default_factory=Admission)
    wanted_socket_mode: int | None = None
    view: View = field(default_factory=View)
    faults: bool = False
    activity: int = 0
    journal: JournalSettings | None = None
    log_level: str = "WARNING"
    log_file: str | None = None

    @property
    def journal_path(self) -> str | None:
        """The journal's file, an absolute path, or None where there is none."""
        if self.journal is None:
            return None
        if self.journal.path is not None:
            return self.journal.path
        return f"{state_directory()}/{_distinct_name(self.source)}.journal"

    @property
    def in_place(self) -> bool:
        """The mount covers the directory that it shows."""
        return self.source == self.mountpoint

    @property
    def sockets(self) -> list[str]:
        """Where the socket may be, in the order of trying."""
        if self.wanted_socket is not None:
            return [self.wanted_socket]
        return default_sockets(self.mountpoint)

    @property
    def socket_mode(self) -> int:
        """Whom the socket lets in: unless it was said, all who may use the mount.

        Those who may connect by name are admitted when they do.
        """
        if self.wanted_socket_mode is not None:
            return self.wanted_socket_mode
        open_to_all = "allow_other" in self.options or self.admission.is_restricted
        return 0o666 if open_to_all else 0o600


def socket_directory() -> str:
    """Return the directory of this user's default sockets: the first one that can be had.

    Root in a user namespace has no more rights to /run than who made the namespace.
    """
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for parent in (["/run"] if uid == 0 else []) + ([runtime] if runtime else []):
        directory = f"{parent}/fusenotify"
        lowest = directory if os.path.lexists(directory) else parent
        if os.access(lowest, os.W_OK | os.X_OK, effective_ids=True):
            return directory
    return f"/tmp/fusenotify-{_outside_user_namespace(uid)}"  # noqa: S108


def default_sockets(mountpoint: str) -> list[str]:
    """Return paths for the socket of a mount point, which is absolute, in the order of trying.

    The first one is taken where no living daemon has it: one whose mount was hidden, or
    is in another mount namespace.
    """
    first = f"{socket_directory()}/{_distinct_name(mountpoint)}"
    return [f"{first}.sock", *(f"{first}-{number}.sock" for number in range(2, _MOST_SOCKETS + 1))]


def state_directory() -> str:
    """Return the directory of this user's journals, as the XDG base directories have it."""
    if os.geteuid() == 0:
        return "/var/lib/fusenotify"
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{home}/fusenotify"


def _distinct_name(directory: str) -> str:
    """Return a name for what belongs to a directory, an absolute path.

    It starts as the path's last component does, for people, and has a hash of the whole path,
    for uniqueness.
    """
    path = os.fsencode(directory)
    name = os.fsdecode(os.path.basename(path)[:_NAME_BYTES] or b"root")
    return f"{name}-{hashlib.sha256(path).hexdigest()[:8]}"


def _outside_user_namespace(uid: int) -> int:
    """Return a user's number as the one who made the user namespace has it."""
    with open("/proc/self/uid_map") as ranges:
        for line in ranges:
            inside, outside, count = map(int, line.split())
            if inside <= uid < inside + count:
                return outside + uid - inside
    return uid
