# SPDX-License-Identifier: GPL-2.0-or-later
"""How a mount shows SOURCE: how long the kernel may remember it, and with which owner and mode.

The command line makes this value for fs.  With the options uid=, gid= and umask=, owner
and mode are shown as by libfuse's own filesystems: SOURCE keeps what it has, and owners
and modes that programs set are set there.

Invariant
    A file's set-id bit is shown together with the owner or group for which it
        holds in SOURCE, or it is not shown.  fs.set_id makes sure that a bit
        which would not be shown is not set either.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import NamedTuple

DEFAULT_SECONDS = 1.0
# If nothing else changes SOURCE: a day, since the kernel need not ask again.
EXCLUSIVE_SECONDS = 86_400.0

SET_ID = stat.S_ISUID | stat.S_ISGID


class Shown(NamedTuple):
    """The fields of stat(2) that decide about permissions."""

    st_mode: int
    st_uid: int
    st_gid: int


@dataclass(frozen=True, slots=True)
class View:
    """How a mount shows SOURCE.

    attr_timeout, entry_timeout and absent_timeout are how many seconds the kernel may
    remember an object's attributes, the object of a name, and that a name does not exist.
    keeps_data says that it may keep a file's data in its cache when the file is opened again.
    uid, gid and permissions (0 to 0o777) are shown instead of SOURCE's own if they are not
    None.  acl says that the kernel enforces access control lists, follows_links that it
    follows symbolic links.
    """

    attr_timeout: float = DEFAULT_SECONDS
    entry_timeout: float = DEFAULT_SECONDS
    absent_timeout: float = 0.0
    keeps_data: bool = False
    uid: int | None = None
    gid: int | None = None
    permissions: int | None = None
    acl: bool = False
    follows_links: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether owners and modes are shown as they are in SOURCE."""
        return self.uid is None and self.gid is None and self.permissions is None

    def shown(self, status: os.stat_result) -> Shown:
        """Return the owner and mode that programs see."""
        mode = status.st_mode
        if self.permissions is not None:
            mode = mode & ~0o7777 | self.permissions
        elif mode & SET_ID and not stat.S_ISDIR(mode):
            mode &= ~self.hidden_set_id(status.st_uid, status.st_gid)
        uid = status.st_uid if self.uid is None else self.uid
        gid = status.st_gid if self.gid is None else self.gid
        return Shown(mode, uid, gid)

    def hidden_set_id(self, uid: int, gid: int) -> int:
        """Return the set-id bits that are not shown for a file that belongs to uid and gid."""
        if self.permissions is not None:
            return SET_ID
        hidden = 0
        if self.uid is not None and self.uid != uid:
            hidden |= stat.S_ISUID
        if self.gid is not None and self.gid != gid:
            hidden |= stat.S_ISGID
        return hidden
