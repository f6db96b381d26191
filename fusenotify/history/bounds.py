# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounds of a journal: which events it keeps, how many bytes of them, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from fusenotify.bits import IN_ATTRIB, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVE

# The events that are kept by default.
CHANGES = IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long entries are kept.

    size is about how many bytes they may take in the file.  age is the number of seconds after
    which they are removed, or None to keep them as long as there is room.
    """

    size: int = 256 * 1024 * 1024
    age: float | None = 30 * 24 * 3600.0
