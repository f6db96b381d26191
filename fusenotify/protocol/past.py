# SPDX-License-Identifier: GPL-2.0-or-later
"""A change that the journal kept, as messages.Past carries it.

Invariant
    On the wire, a change takes at most events.detailed_size() bytes.
"""

from __future__ import annotations

import msgspec

from fusenotify.events import detailed_size

# The cursor of the place before the first entry, in any journal.
BEGINNING = "begin"


class PastEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One change, or a gap.  A field is None if it is not known, or if the user may not know it.

    cursor is the place in the journal after the change, from which to go on.  sequence is the
    number of the change in the journal; time is when it happened, in ns since 1970.  mask is
    as in inotify(7), with IN_ISDIR if the change is about a directory.  path is relative to
    the mount's root, without a slash at either end, and empty for the root itself.

    A rename has the mask IN_MOVED_TO, and old_path is the path before it.  A rename out of
    the directory that was asked about, or to a place where the user may not look, has only
    IN_MOVED_FROM and no old_path.  replaced says that the new path had another object before.
    exchanged is true in both events of an exchange (RENAME_EXCHANGE).  These follow each
    other, and both paths existed all the time.

    pid, uid, gid and command are those of the process that made the change.  Only root, the
    daemon's user and the process's own user get them.

    A gap has the mask IN_Q_OVERFLOW and a reason (fusenotify.history.entries): changes between
    since (0 if that is not known) and time may be missing.
    """

    cursor: str
    sequence: int
    time: int
    mask: int
    path: bytes = b""
    old_path: bytes | None = None
    replaced: bool = False
    exchanged: bool = False
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    command: bytes | None = None
    reason: str | None = None
    since: int | None = None

    @property
    def size(self) -> int:
        """The number of bytes by which it counts in a read."""
        return detailed_size(self.path, self.old_path)
