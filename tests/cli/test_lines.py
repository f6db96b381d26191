# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` prints lines as inotifywait(1) forms them."""

from __future__ import annotations

import re

import pytest

from fusenotify.cli.lines import DEFAULT_FORMAT, LineFormat, event_words
from fusenotify.masks import (
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_TO,
)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        pytest.param(IN_CREATE, "CREATE", id="one event is one word"),
        pytest.param(IN_CREATE | IN_ISDIR, "CREATE,ISDIR", id="ISDIR stands behind"),
        pytest.param(IN_CLOSE_WRITE, "CLOSE_WRITE,CLOSE", id="a close is also CLOSE"),
        pytest.param(
            IN_CLOSE_NOWRITE | IN_ISDIR,
            "CLOSE_NOWRITE,CLOSE,ISDIR",
            id="CLOSE stands between the event and ISDIR",
        ),
        pytest.param(IN_MOVED_TO, "MOVED_TO", id="a move is not also MOVE"),
        pytest.param(IN_MOVE_SELF, "MOVE_SELF", id="move_self"),
        pytest.param(IN_MODIFY | IN_ATTRIB, "MODIFY,ATTRIB", id="lowest bit first"),
    ],
)
def test_words(mask: int, words: str) -> None:
    assert ",".join(event_words(mask)) == words


@pytest.mark.parametrize(
    ("format_", "line"),
    [
        pytest.param(DEFAULT_FORMAT, b"mnt/docs/ CREATE,ISDIR a b", id="the default"),
        pytest.param("%w%f", b"mnt/docs/a b", id="path and name make a path"),
        pytest.param("%|e", b"CREATE|ISDIR", id="another separator"),
        pytest.param("% e", b"CREATE ISDIR", id="a space as separator"),
        pytest.param("%c", b"77", id="the cookie"),
        pytest.param("%f%0%n", b"a b\0\n", id="NUL and newline"),
        pytest.param("%%e %e", b"%e CREATE,ISDIR", id="a percent sign is no conversion"),
        pytest.param("[%T]", b"[then]", id="the time in the given format"),
        pytest.param("-", b"-", id="nothing but text"),
        pytest.param("", b"", id="nothing at all"),
        pytest.param("\udcff%f", b"\xffa b", id="text that is no text"),
    ],
)
def test_format(format_: str, line: bytes) -> None:
    compiled = LineFormat(format_, "then")
    assert compiled.line(b"mnt/docs/", IN_CREATE | IN_ISDIR, 77, b"a b") == line


def test_an_event_of_the_watched_thing_itself_has_no_name() -> None:
    assert LineFormat(DEFAULT_FORMAT).line(b"f", IN_DELETE_SELF, 0, None) == b"f DELETE_SELF "


def test_names_that_are_no_text_are_printed_as_they_are() -> None:
    assert LineFormat("%w%f").line(b"\xff/", IN_CREATE, 0, b"\xfe\n") == b"\xff/\xfe\n"


def test_the_time_is_local_iso_time_by_default() -> None:
    line = LineFormat("%T").line(b"", IN_CREATE, 0, None).decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)


@pytest.mark.parametrize("format_", ["%x", "100%", "%"])
def test_an_unknown_conversion_is_refused_by_name(format_: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"'{format_[format_.index('%') :]}' is no")):
        LineFormat(format_)
