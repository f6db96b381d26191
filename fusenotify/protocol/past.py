# SPDX-License-Identifier: GPL-2.0-or-later
"""A change that the journal kept, as messages.Past carries it.

Invariant
    On the wire it takes at most events.detailed_size() bytes.
"""

from __future__ import annotations

import msgspec

from fusenotify.events import detailed_size

# The cursor of the place before the first entry, in any journal.
BEGINNING = "begin"


class PastEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One change, or a gap.  What is not known, or not for this user to know, is left out.

    cursor is the place in the journal behind it, to go on from.
    sequence is its number in the journal, time when it happened, in ns since 1970.  mask is
    that of inotify(7), with IN_ISDIR where it is about a directory.  path is from the root
    of the mount, without a slash at either end, and empty for the root itself.

    old_path is the path before a rename whose mask is that of IN_MOVED_TO.  A rename out of
    what was asked about, or to where the user may not look, is IN_MOVED_FROM alone.

    Of a rename, replaced says that something else had the new name before.  exchanged is set in
    both events of an exchange (RENAME_EXCHANGE), which follow each other: neither name was
    gone in between.

    pid, uid, gid and command are of the process that did it: for root, the daemon's user,
    and its own user.

    A gap has the mask IN_Q_OVERFLOW and a reason (fusenotify.history.entries): changes between
    since (0 where that is not known) and time may be missing.
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
        """The bytes that it takes of a read."""
        return detailed_size(self.path, self.old_path)
