# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines that ``fusenotify wait`` prints, as inotifywait(1) forms them.

Paths are bytes from end to end: a name need not be text.
"""

from __future__ import annotations

import os
import re
import time

from fusenotify.masks import (
    IN_CLOSE,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_ONESHOT,
    names,
)

DEFAULT_FORMAT = "%w %e %f"
DEFAULT_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

_CONVERSIONS = "%w %f %e %Xe %c %T %0 %n %%"
# %e, or %Xe with the separator X; anything else is one letter.
_CONVERSION = re.compile(r"%(?:(?P<separator>[^wfeTcn0%])e|(?P<letter>.?))", re.DOTALL)
# inotifywait names these behind the events of their neighbours.
_NAMED_LAST = IN_MOVE_SELF | IN_ISDIR | IN_ONESHOT


class LineFormat:
    """A compiled ``--format``.

    %w is the watched path, a directory's with a slash behind; %f the name in
    it, or nothing; %e the events with commas, %Xe with any character X between
    them; %c the cookie; %T the time by time_format (strftime(3)); %0 a NUL, %n
    a newline, %% a percent sign.

    Raises ValueError naming a conversion that does not exist.
    """

    def __init__(self, text: str, time_format: str = DEFAULT_TIME_FORMAT) -> None:
        self._time_format = time_format
        self._parts: list[tuple[str, bytes]] = []
        literal_from = 0
        for match in _CONVERSION.finditer(text):
            self._parts.append(("", os.fsencode(text[literal_from : match.start()])))
            literal_from = match.end()
            separator, letter = match["separator"], match["letter"]
            if separator is None and (not letter or letter not in "wfeTcn0%"):
                raise ValueError(
                    f"'%{letter}' is no conversion; there are %w %f %e %Xe %T %c %0 %n %%"
                )
            self._parts.append((letter or "e", os.fsencode(separator or ",")))
        self._parts.append(("", os.fsencode(text[literal_from:])))

    def line(self, watched: bytes, mask: int, cookie: int, name: bytes | None) -> bytes:
        """Return the line for one event, without a newline behind."""
        return b"".join(
            self._converted(letter, text, watched, mask, cookie, name)
            for letter, text in self._parts
        )

    def _converted(
        self, letter: str, text: bytes, watched: bytes, mask: int, cookie: int, name: bytes | None
    ) -> bytes:
        match letter:
            case "":
                return text
            case "w":
                return watched
            case "f":
                return name or b""
            case "e":
                return text.join(word.encode() for word in event_words(mask))
            case "c":
                return str(cookie).encode()
            case "T":
                return os.fsencode(time.strftime(self._time_format))
            case "0":
                return b"\0"
            case "n":
                return b"\n"
        return b"%"


def event_words(mask: int) -> list[str]:
    """Return the names of a record's events as inotifywait orders them.

    CLOSE stands behind CLOSE_WRITE and CLOSE_NOWRITE, ISDIR at the end.
    """
    words = names(mask & ~_NAMED_LAST)
    if mask & IN_CLOSE:
        words.append("CLOSE")
    return words + names(mask & _NAMED_LAST)
