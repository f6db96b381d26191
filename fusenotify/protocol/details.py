# SPDX-License-Identifier: GPL-2.0-or-later
"""An event as a detailed device gives it.  messages.Events carries them.

Invariant
    On the wire it takes at most events.detailed_size() bytes.
"""

from __future__ import annotations

import msgspec

from fusenotify.events import detailed_size


class DetailedEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One event.  What is not known, or not for this user to know, is None and left out.

    sequence is its number in the mount's order, the same for all devices, time
    when it was told, in ns since 1970 (CLOCK_REALTIME).  wd, mask, cookie are those
    of inotify(7).  path is the name of fusenotify.events.Event: from the watched
    object, None where it is about that object itself, with a slash at its end where
    a directory below says it of itself.  is_dir says that it is about a directory.

    old_path is there where the watch saw both halves of a rename; then mask is that
    of IN_MOVED_TO, and path the new one.

    pid, uid, gid and command are of the process that did it: for root, the
    daemon's user, and its own user.

    lost is how many events an IN_Q_OVERFLOW stands for.  They came behind the
    event before it and before the one behind it; sequence and time are the first one's.
    """

    sequence: int
    time: int
    wd: int
    mask: int
    cookie: int = 0
    path: bytes | None = None
    is_dir: bool = False
    old_path: bytes | None = None
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    command: bytes | None = None
    lost: int | None = None

    @property
    def size(self) -> int:
        """The bytes that it takes of a read."""
        return detailed_size(self.path, self.old_path)
