# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of a mount, which the command line passes to the daemon.

cli.mount fills them in, mounting.checks checks them, mounting.daemon uses them.  This module
also has everything that a command needs to fill them in.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from fusenotify import heard
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

# How many bytes of the mount point's name are in the name of a default socket.
# The path of an AF_UNIX socket has at most 107 bytes.
_NAME_BYTES = 32
# How many living daemons of one mount point can have a default socket.
_MOST_SOCKETS = 100

# How reads are reported: at least once per open file that is read, or each one.
ACCESSES = ("open", "exact")
# How many microseconds the daemon looks for the next request of a busy stream, by default.
POLL_MICROSECONDS = 60


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The journal of a mount (history.journal).

    path is absolute, or None for a file in the user's state directory.  events has the bits of the
    events that are kept.  With synced, entries survive a power failure.
    """

    path: str | None = None
    bounds: Bounds = field(default_factory=Bounds)
    events: int = CHANGES
    synced: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """One mount.

    source and mountpoint are absolute paths, and equal for a mount in place.  wanted_socket
    is an absolute path, or None for a default socket.  options are FUSE's, one ``-o`` word
    each.  access is one of ACCESSES.  poll is how many microseconds the daemon looks for the
    next request of a busy stream before it sleeps.  wanted_socket_mode has the permissions of
    the socket, or is None for the default.  view says how SOURCE is shown.  behind is one of
    heard.KINDS; if it cannot be had, view_alone takes the place of view.  faults allows
    faults.  journal has the settings of the journal, if there is one.  activity is how many
    of the latest operations are remembered, for the report of a test.  log_level is the name
    of a level of logging, log_file an absolute path, or None for stderr or syslog.
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
    behind: str = heard.OFF
    view_alone: View | None = None
    faults: bool = False
    activity: int = 0
    journal: JournalSettings | None = None
    log_level: str = "WARNING"
    log_file: str | None = None

    @property
    def journal_path(self) -> str | None:
        """The absolute path of the journal's file, or None without a journal."""
        if self.journal is None:
            return None
        if self.journal.path is not None:
            return self.journal.path
        return f"{state_directory()}/{_distinct_name(self.source)}.journal"

    @property
    def in_place(self) -> bool:
        """Whether the mount covers the directory that it shows."""
        return self.source == self.mountpoint

    @property
    def sockets(self) -> list[str]:
        """The possible paths of the socket, in the order in which they are tried."""
        if self.wanted_socket is not None:
            return [self.wanted_socket]
        return default_sockets(self.mountpoint)

    @property
    def socket_mode(self) -> int:
        """The permissions of the socket; by default, all who may use the mount can connect.

        If only named users or groups may connect, the server checks that.
        """
        if self.wanted_socket_mode is not None:
            return self.wanted_socket_mode
        open_to_all = "allow_other" in self.options or self.admission.is_restricted
        return 0o666 if open_to_all else 0o600


def socket_directory() -> str:
    """Return the directory of this user's default sockets: the first one that can be used.

    Root in a user namespace has no more rights to /run than the user who made the namespace.
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
    """Return paths for the socket of a mount point, an absolute path, in the order of trying.

    The first one is usually free.  A living daemon may have it whose mount is hidden, or is in
    another mount namespace.
    """
    first = f"{socket_directory()}/{_distinct_name(mountpoint)}"
    return [f"{first}.sock", *(f"{first}-{number}.sock" for number in range(2, _MOST_SOCKETS + 1))]


def state_directory() -> str:
    """Return the directory of this user's journals, following the XDG base directories."""
    if os.geteuid() == 0:
        return "/var/lib/fusenotify"
    home = os.environ.get("XDG_STATE_HOME") or ""
    if not os.path.isabs(home):  # which counts as unset, as the specification says
        home = os.path.expanduser("~/.local/state")
    return f"{home}/fusenotify"


def _distinct_name(directory: str) -> str:
    """Return a name for a file that belongs to a directory, which is an absolute path.

    For people it begins like the path's last component; a hash of the whole path makes it
    unique.
    """
    path = os.fsencode(directory)
    name = os.fsdecode(os.path.basename(path)[:_NAME_BYTES] or b"root")
    return f"{name}-{hashlib.sha256(path).hexdigest()[:8]}"


def _outside_user_namespace(uid: int) -> int:
    """Return a uid of this user namespace as a uid outside of it."""
    with open("/proc/self/uid_map") as ranges:
        for line in ranges:
            inside, outside, count = map(int, line.split())
            if inside <= uid < inside + count:
                return outside + uid - inside
    return uid
