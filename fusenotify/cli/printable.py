# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of files, commands and users in a form that can be shown to people.

A name may be any bytes.  All commands that print names for people use this, except wait and
watch, which print names as they are, like inotify-tools.
"""

from __future__ import annotations

import os
import pwd
import sys
from functools import cache


def printable(name: str | bytes) -> str:
    """Return a name for the terminal, without characters that control the terminal.

    Bytes that are not text, unprintable characters and characters that the encoding of
    standard output lacks are shown as backslash escapes, as in Python.
    """
    text = os.fsdecode(name)
    shown = "".join(each if each.isprintable() else _escaped(each) for each in text)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(character: str) -> str:
    """Return the escape for an unprintable character, or for a byte that is not text."""
    undecoded = character.encode(errors="surrogateescape")
    if len(undecoded) == 1:
        return f"\\x{undecoded[0]:02x}" if character not in "\t\n\r" else ascii(character)[1:-1]
    return ascii(character)[1:-1]


@cache
def user_name(uid: int) -> bytes:
    """Return a user's name, or the uid if there is no name."""
    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return b"%d" % uid
