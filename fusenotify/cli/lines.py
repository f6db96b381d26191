# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines that ``fusenotify wait`` prints, as inotifywait(1) forms them, or as JSON.

Paths are bytes from end to end: a name need not be text.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import time
from functools import cache
from typing import Any

from fusenotify.bits import (
    IN_CLOSE,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_ONESHOT,
    names,
)
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent

DEFAULT_FORMAT = "%w %e %f"
DEFAULT_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

# Of inotifywait, and ours, which only a detailed device's events can fill.
_LETTERS = "wfeTcn0%"
_DETAILS = "PUCO"
_CONVERSIONS = "%w %f %e %Xe %c %T %P %U %C %O %0 %n %%"
# %e, or %Xe with the separator X; anything else is one letter.
_CONVERSION = re.compile(
    rf"%(?:(?P<separator>[^{_LETTERS}])e|(?P<letter>.?))",
    re.DOTALL,
)
# inotifywait names these behind the events of their neighbours.
_NAMED_LAST = IN_MOVE_SELF | IN_ISDIR | IN_ONESHOT
_UNKNOWN = b"-"


class LineFormat:
    """A compiled ``--format``.

    %w is the watched path, a directory's with a slash behind; %f the name in
    it, or nothing; %e the events with commas, %Xe with any character X between
    them; %c the cookie; %T the time by time_format (strftime(3)); %0 a NUL, %n
    a newline, %% a percent sign.

    Not of inotifywait are %P, %U and %C, the process, user and command that did
    it, or "-", and %O, the path before a rename, or nothing.  is_detailed says
    that there is one of them.

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
            if separator is None and (not letter or letter not in _LETTERS + _DETAILS):
                raise ValueError(f"'%{letter}' is no conversion; there are {_CONVERSIONS}")
            self._parts.append((letter or "e", os.fsencode(separator or ",")))
        self._parts.append(("", os.fsencode(text[literal_from:])))
        self.is_detailed = any(letter and letter in _DETAILS for letter, _ in self._parts)

    def line(
        self, watched: bytes, event: InotifyEvent[bytes] | DetailedInotifyEvent[bytes]
    ) -> bytes:
        """Return the line for one event of what is watched, without a newline behind.

        watched is a path, a directory's with a slash behind.
        """
        directory, name = split(event.name)
        return b"".join(
            self._converted(letter, text, watched + directory, name, event)
            for letter, text in self._parts
        )

    def _converted(
        self,
        letter: str,
        text: bytes,
        directory: bytes,
        name: bytes | None,
        event: InotifyEvent[bytes] | DetailedInotifyEvent[bytes],
    ) -> bytes:
        match letter:
            case "":
                return text
            case "w":
                return directory
            case "f":
                return name or b""
            case "e":
                return text.join(word.encode() for word in event_words(event.mask))
            case "c":
                return str(event.cookie).encode()
            case "T":
                return os.fsencode(time.strftime(self._time_format))
            case "0":
                return b"\0"
            case "n":
                return b"\n"
            case "%":
                return b"%"
        assert isinstance(event, DetailedInotifyEvent)
        match letter:
            case "P":
                return _UNKNOWN if event.pid is None else str(event.pid).encode()
            case "U":
                return _UNKNOWN if event.uid is None else os.fsencode(_user(event.uid))
            case "C":
                return _UNKNOWN if event.command is None else event.command
        return event.old_path or b""


def json_line(watched: bytes, event: DetailedInotifyEvent[bytes]) -> bytes:
    """Return one event as a JSON object, in ASCII and without a newline behind.

    It has the fields of DetailedInotifyEvent that are known, watched, and events,
    the names of the mask's bits.  Text that is not UTF-8 has U+FFFD for what is
    not, and beside it, under a name with _base64 behind, is what it is.
    """
    known: dict[str, Any] = {
        "sequence": event.sequence,
        "time": event.time,
        "events": names(event.mask),
        "watched": watched,
    }
    known |= {key: value for key, value in event._asdict().items() if value is not None}
    plain: dict[str, Any] = {}
    for key, value in known.items():
        if not isinstance(value, bytes):
            plain[key] = value
            continue
        plain[key] = value.decode(errors="replace")
        if plain[key].encode() != value:
            plain[f"{key}_base64"] = base64.b64encode(value).decode()
    return json.dumps(plain).encode()


def split(name: bytes | None) -> tuple[bytes, bytes | None]:
    """Return the directory, with a slash at the end, and the name in it that a record is about.

    The directory is relative to the watched one.  What a directory says of
    itself has no name.
    """
    if name is None:
        return b"", None
    directory, slash, last = name.rpartition(b"/")
    return directory + slash, last or None


def event_words(mask: int) -> list[str]:
    """Return the names of a record's events as inotifywait orders them.

    CLOSE stands behind CLOSE_WRITE and CLOSE_NOWRITE, ISDIR at the end.
    """
    mask = int(mask)  # an IntFlag's arithmetic takes ten times as long
    words = names(mask & ~_NAMED_LAST)
    if mask & IN_CLOSE:
        words.append("CLOSE")
    return words + names(mask & _NAMED_LAST)


@cache
def _user(uid: int) -> str:
    """Return a user's name, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
