# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` prints lines as inotifywait(1) forms them."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from fusenotify.cli.lines import DEFAULT_FORMAT, LineFormat, event_words, json_line, split
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent
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
    IN_Q_OVERFLOW,
    Mask,
)


def event(mask: int, name: bytes | None = None, cookie: int = 0) -> InotifyEvent[bytes]:
    return InotifyEvent(1, Mask(mask), cookie, name, b"")


def detailed(mask: int, name: bytes | None = None, **known: Any) -> DetailedInotifyEvent[bytes]:
    path = b"mnt/" + (name or b"").rstrip(b"/")
    return DetailedInotifyEvent(1, Mask(mask), 0, name, path, sequence=7, time=9, **known)


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
    assert compiled.line(b"mnt/docs/", event(IN_CREATE | IN_ISDIR, b"a b", 77)) == line
    assert not compiled.is_detailed


def test_an_event_of_the_watched_thing_itself_has_no_name() -> None:
    assert LineFormat(DEFAULT_FORMAT).line(b"f", event(IN_DELETE_SELF)) == b"f DELETE_SELF "


def test_names_that_are_no_text_are_printed_as_they_are() -> None:
    assert LineFormat("%w%f").line(b"\xff/", event(IN_CREATE, b"\xfe\n")) == b"\xff/\xfe\n"


def test_the_time_is_local_iso_time_by_default() -> None:
    line = LineFormat("%T").line(b"", event(IN_CREATE)).decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)


@pytest.mark.parametrize(
    ("name", "directory", "entry"),
    [
        pytest.param(None, b"", None, id="the watched directory says it of itself"),
        pytest.param(b"c", b"", b"c", id="of an entry"),
        pytest.param(b"a/b/c", b"a/b/", b"c", id="a directory below of an entry"),
        pytest.param(b"a/b/", b"a/b/", None, id="a directory below of itself"),
    ],
)
def test_the_name_says_which_watch_it_would_have_been(
    name: bytes | None, directory: bytes, entry: bytes | None
) -> None:
    assert split(name) == (directory, entry)


@pytest.mark.parametrize(
    ("format_", "line"),
    [
        pytest.param("%P", b"41", id="process"),
        pytest.param("%U", b"root", id="user"),
        pytest.param("%C", b"mv \xff", id="command"),
        pytest.param("%O > %w%f", b"mnt/\xfe > mnt/a/b", id="both names"),
        pytest.param("%Pe %PeP", b"MOVED_TOPISDIR MOVED_TOPISDIRP", id="not where inotifywait has"),
    ],
)
def test_what_only_a_detailed_event_has(format_: str, line: bytes) -> None:
    compiled = LineFormat(format_)
    moved = detailed(
        IN_MOVED_TO | IN_ISDIR, b"a/b", pid=41, uid=0, command=b"mv \xff", old_path=b"mnt/\xfe"
    )
    assert compiled.line(b"mnt/", moved) == line
    assert compiled.is_detailed == ("e" not in format_)


def test_what_is_not_known_is_a_dash_and_no_old_path_is_nothing() -> None:
    compiled = LineFormat("%P %U %C %O.")
    assert compiled.line(b"mnt/", detailed(IN_CREATE, b"a")) == b"- - - ."


def test_a_user_without_a_name_is_a_number() -> None:
    assert LineFormat("%U").line(b"", detailed(IN_CREATE, uid=4_000_000_001)) == b"4000000001"


def test_json_has_what_is_known_and_no_more() -> None:
    made = detailed(IN_CREATE | IN_ISDIR, b"a", is_dir=True, pid=41, uid=0, gid=5, command=b"mkdir")
    assert json.loads(json_line(b"mnt/", made)) == {
        "sequence": 7,
        "time": 9,
        "events": ["CREATE", "ISDIR"],
        "watched": "mnt/",
        "wd": 1,
        "mask": IN_CREATE | IN_ISDIR,
        "cookie": 0,
        "name": "a",
        "path": "mnt/a",
        "is_dir": True,
        "pid": 41,
        "uid": 0,
        "gid": 5,
        "command": "mkdir",
    }
    lost = json.loads(json_line(b"", DetailedInotifyEvent(-1, IN_Q_OVERFLOW, 0, None, b"", lost=3)))
    assert (lost["events"], lost["lost"]) == (["Q_OVERFLOW"], 3)
    assert not {"name", "old_path", "pid", "command"} & {*lost}


@pytest.mark.parametrize(
    "name",
    [
        b"\xff",
        b"a\n\x1b[2J",
        "ü\ufffd\u2028".encode(),
        b"\xed\xb3\xbf",
        b"\xc3",
        b'"\\',
        b"\xf0\x9f\x98\x80",
    ],
)
def test_any_name_can_be_made_again_from_its_json(name: bytes) -> None:
    line = json_line(b"mnt/", detailed(IN_CREATE, name, command=name))
    assert line.isascii()
    assert line.decode().isprintable()
    found = json.loads(line)
    for key, value in (("name", name), ("path", b"mnt/" + name), ("command", name)):
        as_it_is = found.get(f"{key}_base64")
        again = found[key].encode() if as_it_is is None else base64.b64decode(as_it_is)
        assert again == value
    try:
        name.decode()
    except UnicodeDecodeError:
        assert "\ufffd" in found["name"]
    else:
        assert "name_base64" not in found


@pytest.mark.parametrize("format_", ["%x", "100%", "%"])
def test_an_unknown_conversion_is_refused_by_name(format_: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"'{format_[format_.index('%') :]}' is no")):
        LineFormat(format_)
