# SPDX-License-Identifier: GPL-2.0-or-later
"""How a mount shows SOURCE: for how long the kernel may remember it, and whose it seems.

A value between cli, settings and fs.  The owner and mode are shown as libfuse's
own filesystems do for the options uid=, gid= and umask=: what SOURCE has stays,
and what programs set is set there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

DEFAULT_SECONDS = 1.0
# Where nothing else changes SOURCE: a day, for nothing has to be asked again.
EXCLUSIVE_SECONDS = 86_400.0


class Shown(NamedTuple):
    """The part of stat(2)'s answer that says who may do what."""

    st_mode: int
    st_uid: int
    st_gid: int


@dataclass(frozen=True, slots=True)
class View:
    """How a mount shows SOURCE.

    attr_timeout, entry_timeout and absent_timeout are how long, in seconds, the
    kernel may answer from memory what an object's attributes are, what a name
    is, and that there is no such name; keeps_data says that it may keep what was
    read of a file when the file is opened again.  uid, gid and permissions (0 to 0o777)
    are shown in place of SOURCE's own where they are not None.  acl says that
    the kernel enforces access control lists.
    """

    attr_timeout: float = DEFAULT_SECONDS
    entry_timeout: float = DEFAULT_SECONDS
    absent_timeout: float = 0.0
    keeps_data: bool = False
    uid: int | None = None
    gid: int | None = None
    permissions: int | None = None
    acl: bool = False

    @property
    def is_plain(self) -> bool:
        """Owners and modes are shown as they are."""
        return self.uid is None and self.gid is None and self.permissions is None

    def shown(self, status: os.stat_result) -> Shown:
        """Return the owner and mode that programs see."""
        mode = status.st_mode
        if self.permissions is not None:
            mode = mode & ~0o7777 | self.permissions
        uid = status.st_uid if self.uid is None else self.uid
        gid = status.st_gid if self.gid is None else self.gid
        return Shown(mode, uid, gid)
