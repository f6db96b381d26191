# SPDX-License-Identifier: GPL-2.0-or-later
"""The events of a detailed device.  messages.Events carries them.

Invariant
    In a message an event takes at most events.detailed_size() bytes.
"""

from __future__ import annotations

import msgspec

from fusenotify.events import detailed_size


class DetailedEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One event.

    Fields that are unknown, or that this user may not know, are None and are left
    out of the message.

    sequence is its number in the order of the mount, the same for all devices; time
    is when it happened, in ns since 1970 (CLOCK_REALTIME).  wd, mask and cookie are
    those of inotify(7).  path is the path from the watched object.  It is None if
    the event is about that object itself, and ends in a slash if the event is about
    a directory below, reported by that directory itself.  is_dir says that the event
    is about a directory.

    If the watch got both halves of a rename, they are one event: mask is that of
    IN_MOVED_TO, path is the new path, and old_path the one before.

    pid, uid, gid and command describe the process that caused the event.  Root, the
    daemon's user and the process's own user may know them.

    behind says that SOURCE itself was changed, past the mount; then uid, gid and command are
    known only if the daemon found the process still there.

    lost is the number of events that an IN_Q_OVERFLOW stands for.  They happened
    between the event before it and the event after it; sequence and time are those
    of the first of them.
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
    behind: bool = False
    lost: int | None = None

    @property
    def size(self) -> int:
        """The number of bytes of a read that the event takes."""
        return detailed_size(self.path, self.old_path)
