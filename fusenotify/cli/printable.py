# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of files, commands and users as they may be shown to people.

A name may be any bytes.  Whatever prints one for people takes it from here, but for
wait and watch, which print names as they are, as inotify-tools do.
"""

from __future__ import annotations

import os
import pwd
import sys
from functools import cache


def printable(name: str | bytes) -> str:
    """Return a name for the terminal, which shall not obey it.

    What is no text, no printable character, or not in the encoding of standard output
    has a backslash and its number, as in Python.
    """
    text = os.fsdecode(name)
    shown = "".join(each if each.isprintable() else _escaped(each) for each in text)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(character: str) -> str:
    """Return what stands for a character that is not printable, or for a byte that is no text."""
    undecoded = character.encode(errors="surrogateescape")
    if len(undecoded) == 1:
        return f"\\x{undecoded[0]:02x}" if character not in "\t\n\r" else ascii(character)[1:-1]
    return ascii(character)[1:-1]


@cache
def user_name(uid: int) -> bytes:
    """Return a user's name, or the number where there is none."""
    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return b"%d" % uid
