# SPDX-License-Identifier: GPL-2.0-or-later
"""The entries of the journal: changes, and gaps where changes are missing.

history.journal makes entries, history.store keeps them, the server sends them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from fusenotify.bits import IN_Q_OVERFLOW

# What the numbers in a journal may be, which are checked where they are read.  Larger ones mean
# that the file is damaged.
Number = Annotated[int, Meta(ge=0, lt=1 << 60)]
Time = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Bits = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Id = Annotated[int, Meta(ge=-1, lt=1 << 32)]


class Reason(StrEnum):
    """Why changes are missing."""

    STOPPED = "stopped"  # no daemon ran
    CRASHED = "crashed"  # the daemon ended without closing the journal
    OVERFLOW = "overflow"  # changes came faster than they could be written
    PATH = "path"  # a path was too long to be kept
    EXPIRED = "expired"  # the journal no longer has the entries after the cursor
    DAMAGED = "damaged"  # the journal cannot be read at this place
    OTHER = "other journal"  # the cursor is of another journal
    FUTURE = "future"  # the cursor is newer than the journal


class Entry(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """One change, or one gap.

    sequence is the number in this journal, 1 for the first entry, without holes.  time is in
    ns since 1970.  mask is that of inotify(7); a rename is one entry with the mask of
    IN_MOVED_TO, the new path in path and the old one in old_path.  Paths are from the root
    of the tree, without a slash at either end; the path of the root is empty.

    For a rename, replaced says that another object had the new name before.  exchanged is set
    in both entries of an exchange (RENAME_EXCHANGE), which follow each other: neither name was
    gone in between.

    pid, uid, gid and command describe the process that made the change.  If they are unknown,
    pid is 0, uid and gid are -1, and command is None.

    A gap has the mask IN_Q_OVERFLOW and a reason: changes made between since and time, in ns
    since 1970, may be missing.  since is 0 if it is unknown.
    """

    sequence: Number
    time: Time
    mask: _Bits
    path: bytes = b""
    old_path: bytes | None = None
    pid: _Id = 0
    uid: _Id = -1
    gid: _Id = -1
    command: bytes | None = None
    reason: Reason | None = None
    since: Time = 0
    replaced: bool = False
    exchanged: bool = False

    @property
    def size(self) -> int:
        """About how many bytes of memory the entry takes."""
        return ENTRY_BYTES + len(self.path) + len(self.old_path or b"")


# How many bytes of memory an entry takes besides its paths.
ENTRY_BYTES = 250


def gap(sequence: int, since: int, until: int, reason: Reason) -> Entry:
    """Return the entry for changes between two times that may be missing."""
    return Entry(sequence, until, IN_Q_OVERFLOW, reason=reason, since=since)
