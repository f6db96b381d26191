# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines that ``fusenotify wait`` prints, as inotifywait(1) forms them, or as JSON.

Paths and formats are bytes from end to end: a name need not be text.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from fusenotify.bits import (
    IN_CLOSE,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_ONESHOT,
    names,
)
from fusenotify.cli.libc import formatted_time
from fusenotify.cli.printable import user_name
from fusenotify.cli.watching import Told
from fusenotify.client.events import DetailedInotifyEvent
from fusenotify.masks import Mask
from fusenotify.plain import plain

DEFAULT_FORMAT = b"%w %,e %f\n"

# inotifywait's letters; %Xe with the separator X; ours, which only a detailed device's events can
# fill.  Whatever else is behind a percent sign is printed with it.
_CONVERSION = re.compile(
    rb"%(?:(?P<letter>[%0nwfceT])|(?P<separator>.)e|(?P<detail>[PUCO]))", re.DOTALL
)
# inotifywait names these behind the events of their neighbours.
_NAMED_LAST = IN_MOVE_SELF | IN_ISDIR | IN_ONESHOT
_UNKNOWN = b"-"
# What inotifywait puts in quotes.
_QUOTED = re.compile(rb'[",\n]|\A | \Z')


class LineFormat:
    """A compiled ``--format``.

    %w is the directory with a slash behind, or the file that is watched; %f the
    name in it, or nothing; %e the events with commas, %Xe with any character X
    between them; %c the cookie, in hexadecimal digits; %T the time by time_format
    (strftime(3)); %0 a NUL, %n a newline, %% a percent sign.

    Not of inotifywait are %P, %U and %C, the process, user and command that did
    it, or "-", and %O, the path before a rename, or nothing.  is_detailed says
    that there is one of them.  What is no conversion is text.
    """

    def __init__(self, text: bytes, time_format: bytes = b"") -> None:
        self._time_format = time_format
        self._parts: list[tuple[str, bytes]] = []
        literal_from = 0
        for match in _CONVERSION.finditer(text):
            self._parts.append(("", text[literal_from : match.start()]))
            literal_from = match.end()
            letter = match["letter"] or match["detail"] or b"e"
            self._parts.append((letter.decode(), match["separator"] or b","))
        self._parts.append(("", text[literal_from:]))
        self.is_detailed = any(letter and letter in "PUCO" for letter, _ in self._parts)

    @property
    def may_be_empty(self) -> bool:
        """Whether there are events of which nothing would be printed."""
        event = DetailedInotifyEvent(0, Mask.ALL_EVENTS, 0, None, b"")
        return not self.line(Told(b"", b"", b"", event))

    def line(self, told: Told) -> bytes:
        """Return what is printed of one event."""
        return b"".join([self._converted(letter, text, told) for letter, text in self._parts])

    def _converted(self, letter: str, text: bytes, told: Told) -> bytes:
        event = told.event
        match letter:
            case "":
                return text
            case "w":
                return told.directory
            case "f":
                return told.name
            case "e":
                return text.join(event_words(event.mask))
            case "c":
                return b"%x" % event.cookie
            case "T":
                return formatted_time(self._time_format)
            case "0":
                return b"\0"
            case "n":
                return b"\n"
            case "%":
                return b"%"
        assert isinstance(event, DetailedInotifyEvent)
        match letter:
            case "P":
                return _UNKNOWN if event.pid is None else b"%d" % event.pid
            case "U":
                return _UNKNOWN if event.uid is None else user_name(event.uid)
            case "C":
                return _UNKNOWN if event.command is None else event.command
        return event.old_path or b""


def csv_line(told: Told) -> bytes:
    """Return one event as ``--csv`` prints it; without a directory there is no field for it."""
    fields = [told.directory] if told.directory else []
    fields += [b",".join(event_words(told.event.mask)), told.name]
    return b",".join(map(_field, fields)) + b"\n"


def _field(text: bytes) -> bytes:
    return b'"%s"' % text.replace(b'"', b'""') if _QUOTED.search(text) else text


def json_line(told: Told) -> bytes:
    """Return one event of a detailed device as a JSON object, in ASCII, with a newline behind.

    It has the fields of DetailedInotifyEvent that are known, watched, and events,
    the names of the mask's bits.
    """
    event = told.event
    assert isinstance(event, DetailedInotifyEvent)
    known: dict[str, Any] = {
        "sequence": event.sequence,
        "time": event.time,
        "events": names(event.mask),
        "watched": told.watched,
    }
    return json_object(known | event._asdict())


def json_object(values: dict[str, Any]) -> bytes:
    """Return the values that are not None as a JSON object, in ASCII, with a newline behind."""
    known = {key: value for key, value in values.items() if value is not None}
    return json.dumps(plain(known)).encode() + b"\n"


@cache
def event_words(mask: int) -> tuple[bytes, ...]:
    """Return the names of a record's events as inotifywait orders them.

    CLOSE stands behind CLOSE_WRITE and CLOSE_NOWRITE, ISDIR at the end.
    """
    words = names(mask & ~_NAMED_LAST)
    if mask & IN_CLOSE:
        words.append("CLOSE")
    return tuple([word.encode() for word in words + names(mask & _NAMED_LAST)])
