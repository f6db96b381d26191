# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` prints lines as inotifywait(1) forms them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from fusenotify.cli.lines import DEFAULT_FORMAT, LineFormat, csv_line, event_words, json_line
from fusenotify.cli.watching import Told
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


def event(mask: int, name: bytes = b"", cookie: int = 0, directory: bytes = b"mnt/") -> Told:
    return Told(b"mnt/", directory, name, InotifyEvent(1, Mask(mask), cookie, name or None, b""))


def detailed(mask: int, name: bytes = b"", **known: Any) -> Told:
    path = b"mnt/" + name
    found = DetailedInotifyEvent(1, Mask(mask), 0, name or None, path, sequence=7, time=9, **known)
    return Told(b"mnt/", b"mnt/", name, found)


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
    assert b",".join(event_words(mask)) == words.encode()


@pytest.mark.parametrize(
    ("format_", "line"),
    [
        pytest.param(DEFAULT_FORMAT, b"mnt/docs/ CREATE,ISDIR a b\n", id="the default"),
        pytest.param(b"%w%f", b"mnt/docs/a b", id="path and name make a path"),
        pytest.param(b"%|e", b"CREATE|ISDIR", id="another separator"),
        pytest.param(b"%c", b"4d", id="the cookie"),
        pytest.param(b"%f%0%n", b"a b\0\n", id="NUL and newline"),
        pytest.param(b"%%e %e", b"%e CREATE,ISDIR", id="a percent sign is no conversion"),
        pytest.param(b"[%T]", b"[then]", id="the time in the given format"),
        pytest.param(b"%z %", b"%z %", id="what is no conversion is text"),
        pytest.param(b"", b"", id="nothing at all"),
        pytest.param(b"\xff%f", b"\xffa b", id="text that is no text"),
    ],
)
def test_format(format_: bytes, line: bytes) -> None:
    compiled = LineFormat(format_, b"then")
    told = event(IN_CREATE | IN_ISDIR, b"a b", 77, b"mnt/docs/")
    assert compiled.line(told) == line
    assert not compiled.is_detailed


def test_an_event_of_the_watched_thing_itself_has_no_name() -> None:
    line = LineFormat(DEFAULT_FORMAT).line(event(IN_DELETE_SELF, directory=b"f"))
    assert line == b"f DELETE_SELF \n"


def test_names_that_are_no_text_are_printed_as_they_are() -> None:
    told = event(IN_CREATE, b"\xfe\n", directory=b"\xff/")
    assert LineFormat(b"%w%f").line(told) == b"\xff/\xfe\n"
    assert csv_line(told) == b'\xff/,CREATE,"\xfe\n"\n'


def test_an_event_without_a_watch_has_no_path() -> None:
    lost = event(IN_Q_OVERFLOW, directory=b"")
    assert LineFormat(DEFAULT_FORMAT).line(lost) == b" Q_OVERFLOW \n"
    assert csv_line(lost) == b"Q_OVERFLOW,\n"


@pytest.mark.parametrize("format_", [b"", b"%w%f", b"%T", b"%O"])
def test_a_format_that_may_print_nothing_is_found(format_: bytes) -> None:
    assert LineFormat(format_).may_be_empty
    assert not LineFormat(format_ + b"%n").may_be_empty
    assert not LineFormat(format_ + b"%P").may_be_empty


@pytest.mark.parametrize(
    ("format_", "line"),
    [
        pytest.param(b"%P", b"41", id="process"),
        pytest.param(b"%U", b"root", id="user"),
        pytest.param(b"%C", b"mv \xff", id="command"),
        pytest.param(b"%O > %w%f", b"mnt/\xfe > mnt/a/b", id="both names"),
        pytest.param(
            b"%Pe %PeP", b"MOVED_TOPISDIR MOVED_TOPISDIRP", id="not where inotifywait has"
        ),
    ],
)
def test_fields_of_detailed_events_only(format_: bytes, line: bytes) -> None:
    compiled = LineFormat(format_)
    moved = detailed(
        IN_MOVED_TO | IN_ISDIR, b"a/b", pid=41, uid=0, command=b"mv \xff", old_path=b"mnt/\xfe"
    )
    assert compiled.line(moved) == line
    assert compiled.is_detailed == (b"e" not in format_)


def test_an_unknown_field_is_a_dash_and_a_missing_old_path_is_empty() -> None:
    compiled = LineFormat(b"%P %U %C %O.")
    assert compiled.line(detailed(IN_CREATE, b"a")) == b"- - - ."


def test_a_user_without_a_name_is_a_number() -> None:
    assert LineFormat(b"%U").line(detailed(IN_CREATE, uid=4_000_000_001)) == b"4000000001"


def test_json_has_what_is_known_and_no_more() -> None:
    made = detailed(IN_CREATE | IN_ISDIR, b"a", is_dir=True, pid=41, uid=0, gid=5, command=b"mkdir")
    assert json.loads(json_line(made)) == {
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
    overflow = DetailedInotifyEvent(-1, IN_Q_OVERFLOW, 0, None, b"", lost=3)
    lost = json.loads(json_line(Told(b"", b"", b"", overflow)))
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
    line = json_line(detailed(IN_CREATE, name, command=name))
    assert line.isascii()
    assert line.endswith(b"}\n")
    assert line.decode().removesuffix("\n").isprintable()
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
