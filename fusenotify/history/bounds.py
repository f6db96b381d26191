# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of what a journal keeps, as users say it."""

from __future__ import annotations

from dataclasses import dataclass

from fusenotify.bits import IN_ATTRIB, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVE

# The events that are kept unless others are asked for.
CHANGES = IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long entries are kept.

    size is about the bytes that they may take in the file, age the seconds after which they
    are removed, or None to keep them as long as there is room.
    """

    size: int = 256 * 1024 * 1024
    age: float | None = 30 * 24 * 3600.0
