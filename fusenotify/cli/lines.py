# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines that ``fusenotify wait`` prints, in the form of inotifywait(1), or as JSON.

Paths and formats are always bytes, since a name need not be text.
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

# inotifywait's letters; %Xe with the separator X; our own letters, which need a detailed device's
# events.  A percent sign before anything else is printed as it is.
_CONVERSION = re.compile(
    rb"%(?:(?P<letter>[%0nwfceT])|(?P<separator>.)e|(?P<detail>[PUCO]))", re.DOTALL
)
# inotifywait prints these after all other events.
_NAMED_LAST = IN_MOVE_SELF | IN_ISDIR | IN_ONESHOT
_UNKNOWN = b"-"
# Fields that inotifywait puts in quotes.
_QUOTED = re.compile(rb'[",\n]|\A | \Z')


class LineFormat:
    """A compiled ``--format``.

    %w is the watched directory, with a slash at its end, or the watched file; %f is
    the name in the directory, or nothing.  %e has the events separated by commas,
    %Xe has them separated by any character X.  %c is the cookie in hexadecimal; %T
    is the time in time_format (strftime(3)).  %0 is a NUL, %n a newline, %% a percent
    sign.  Everything else is text.

    Conversions that inotifywait does not have are %P, %U and %C, which are the
    process, user and command that caused the event, or "-", and %O, the path before
    a rename, or nothing.  is_detailed says that the format has one of these.
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
        """Whether nothing would be printed for some event."""
        event = DetailedInotifyEvent(0, Mask.ALL_EVENTS, 0, None, b"")
        return not self.line(Told(b"", b"", b"", event))

    def line(self, told: Told) -> bytes:
        """Return the text to print for an event."""
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
    """Return an event in the form of ``--csv``; without a directory, that field is missing."""
    fields = [told.directory] if told.directory else []
    fields += [b",".join(event_words(told.event.mask)), told.name]
    return b",".join(map(_field, fields)) + b"\n"


def _field(text: bytes) -> bytes:
    return b'"%s"' % text.replace(b'"', b'""') if _QUOTED.search(text) else text


def json_line(told: Told) -> bytes:
    """Return an event of a detailed device as a JSON object, in ASCII, with a newline at its end.

    It has the known fields of DetailedInotifyEvent, the watched path as watched, and the
    names of the mask's bits as events.
    """
    event = told.event
    assert isinstance(event, DetailedInotifyEvent)
    known: dict[str, Any] = {
        "sequence": event.sequence,
        "time": event.time,
        "events": names(event.mask),
        "watched": told.watched,
    }
    return json_object(known | event._asdict() | {"behind": event.behind or None})


def json_object(values: dict[str, Any]) -> bytes:
    """Return the values that are not None as a JSON object, in ASCII, with a newline at its end."""
    known = {key: value for key, value in values.items() if value is not None}
    return json.dumps(plain(known)).encode() + b"\n"


@cache
def event_words(mask: int) -> tuple[bytes, ...]:
    """Return the names of a record's events in the order of inotifywait.

    CLOSE comes after CLOSE_WRITE and CLOSE_NOWRITE, ISDIR at the end.
    """
    words = names(mask & ~_NAMED_LAST)
    if mask & IN_CLOSE:
        words.append("CLOSE")
    return tuple([word.encode() for word in words + names(mask & _NAMED_LAST)])
