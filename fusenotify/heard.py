# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mount hears of changes that are made to SOURCE itself, behind it.

A value between cli, mounting, fs and server.
"""

from __future__ import annotations

from typing import NamedTuple

# Nothing; what is watched; all of SOURCE.
OFF, WATCHED, ALL = KINDS = ("off", "watched", "all")


class Heard(NamedTuple):
    """What was heard since the mount was made.

    wanted is one of KINDS, and hears what of it could be had; why_not is why not all.  marks are
    those of single objects.  records were read, of which echoes are of what the daemon did itself,
    and told those that were told.  overflows is how often records were lost, mended how many
    names were told to be what no record said.  forgotten are the names and attributes that
    the kernel was told to forget.
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
