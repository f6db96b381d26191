# SPDX-License-Identifier: GPL-2.0-or-later
"""Which changes made directly to SOURCE, behind the mount, a mount hears of.

cli, mounting, fs and server pass this value.
"""

from __future__ import annotations

from typing import NamedTuple

# No changes; changes of watched objects; all changes in SOURCE.
OFF, WATCHED, ALL = KINDS = ("off", "watched", "all")


class Heard(NamedTuple):
    """What was heard since the mount was made.

    wanted is the one of KINDS that was asked for, and hears the one that is possible; why_not
    says why that is less.  The others are counts: marks of single objects; records that were
    read; echoes, those of them that are about the daemon's own calls; told, those that became
    events; overflows, how often records were lost; mended, names that were corrected without
    a record; forgotten, names and attributes that the kernel was told to forget.
    """

    wanted: str
    hears: str
    why_not: str = ""
    marks: int = 0
    records: int = 0
    echoes: int = 0
    told: int = 0
    overflows: int = 0
    mended: int = 0
    forgotten: int = 0
