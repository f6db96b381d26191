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
from fusenotify.view import View

__all__ = [
    "ACCESSES",
    "LINUX_6",
    "MOST",
    "POLL_MICROSECONDS",
    "SEMANTICS",
    "Limits",
    "Settings",
    "default_socket",
    "socket_directory",
]

# Bytes of the mount point's name that a default socket's name keeps.  An
# AF_UNIX path has room for 107 in all.
_NAME_BYTES = 32

# How reads are told: at least once per open file that reads, or each one.
ACCESSES = ("open", "exact")
# How long the daemon looks for the next request of a busy stream.
POLL_MICROSECONDS = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """One mount.

    source, mountpoint and socket are absolute; source and mountpoint are equal
    for a mount in place.  options are FUSE's, one ``-o`` word each.  access is
    one of ACCESSES.  poll is how long, in microseconds, the daemon looks for the
    next request of a busy stream before it sleeps.  wanted_socket_mode is
    the socket's permissions, where they were said.  view is how SOURCE is shown,
    by options too.  faults lets testers cause some.
    """

    source: str
    mountpoint: str
    socket: str
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

    @property
    def in_place(self) -> bool:
        """The mount covers the directory that it shows."""
        return self.source == self.mountpoint

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
    """Return the directory of this user's default sockets."""
    uid = os.geteuid()
    if uid == 0:
        return "/run/fusenotify"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"{runtime}/fusenotify" if runtime else f"/tmp/fusenotify-{uid}"  # noqa: S108


def default_socket(mountpoint: str) -> str:
    """Return the socket's path for a mount point, which is absolute.

    The name starts as the mount point's last component does, for people, and
    ends in a hash of the whole path, for uniqueness.
    """
    path = os.fsencode(mountpoint)
    name = os.path.basename(path)[:_NAME_BYTES] or b"root"
    digest = hashlib.sha256(path).hexdigest()[:8]
    return f"{socket_directory()}/{os.fsdecode(name)}-{digest}.sock"
