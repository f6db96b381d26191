# SPDX-License-Identifier: GPL-2.0-or-later
"""The text form of records in tests, one line for each.

    CREATE report.txt
    CREATE|ISDIR sub
    docs: MOVED_FROM a #1
    MOVED_TO a -> b
    CREATE b'caf\\xe9'

A line is ``[WATCH: ]EVENTS[ [OLD -> ]NAME][ #COOKIE]``; only detailed devices have
renames with the old name.  testing.matching compares lines with a device's
records, which testing.watching turns into Seen.

Invariant
    parse() reads what spell() writes as the same record.  A name or a watch for
    which plain text would not do so, or that people could not read, is written
    as a bytes literal.
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass

from fusenotify.bits import SINGLE_BITS, names
from fusenotify.masks import GROUPS, unknown_word

_LITERAL = r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\""""
_PLAIN = r"(?:(?! -> ).)+?"
# Text that begins like a mask is read as one, and text at the end that can be a cookie's number
# is read as one.
_LINE = re.compile(
    rf"(?:(?P<watch>{_LITERAL}|.+?): )??"
    r"(?P<mask>[A-Z_]+(?:\|[A-Z_]+)*)"
    rf"(?: (?:(?P<old>{_LITERAL}|{_PLAIN}) -> )??(?P<name>{_LITERAL}|{_PLAIN}))??"
    r"(?: #(?P<cookie>[1-9][0-9]*))?"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One record from a device.

    watch is the path that was given to watch(), or "" for IN_Q_OVERFLOW; the rest
    is as in fusenotify.events.Event.  If one event of a detailed device stands for
    a whole rename, old_name is the old name, and cookie is 0.
    """

    watch: str
    mask: int
    name: bytes | None = None
    cookie: int = 0
    old_name: bytes | None = None

    def __str__(self) -> str:
        return spell(self.mask, self.name, self.watch or None, old_name=self.old_name)


@dataclass(frozen=True, slots=True)
class Expected:
    """One record that a test expects.

    watch and cookie are compared only if they are not None.  cookie is the number
    after ``#``: records with the same number have the same cookie, records with
    different numbers have different cookies.
    """

    mask: int
    name: bytes | None = None
    watch: str | None = None
    cookie: int | None = None
    old_name: bytes | None = None

    def fits(self, seen: Seen) -> bool:
        """Return whether this matches a seen record, without regard to the cookie's value."""
        return (
            self.mask == seen.mask
            and self.name == seen.name
            and self.old_name == seen.old_name
            and (self.watch is None or self.watch == seen.watch)
            and (self.cookie is None or seen.cookie != 0)
        )

    def __str__(self) -> str:
        return spell(self.mask, self.name, self.watch, self.cookie, self.old_name)


def parse(line: str) -> Expected:
    """Return the record that a line expects.

    Raises ValueError or TypeError, which say what is wrong with the line.
    """
    if not isinstance(line, str):
        raise TypeError(f"an expected record is text such as 'CREATE name', not {line!r}")
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(
            f"'{line}' is not a record: write [WATCH: ]EVENTS[ [OLD -> ]NAME][ #COOKIE], "
            "as in 'CREATE|ISDIR sub' or 'docs: MOVED_FROM a #1'"
        )
    watch, name, cookie, old = (found[part] for part in ("watch", "name", "cookie", "old"))
    return Expected(
        mask=_mask_of_record(found["mask"], line),
        name=None if name is None else _from_text(name),
        watch=None if watch is None else os.fsdecode(_from_text(watch)),
        cookie=None if cookie is None else int(cookie),
        old_name=None if old is None else _from_text(old),
    )


def spell(
    mask: int,
    name: bytes | None = None,
    watch: str | None = None,
    cookie: int | None = None,
    old_name: bytes | None = None,
) -> str:
    """Return the line for a record; the inverse of parse()."""
    meant = Expected(mask, name, watch, cookie, old_name)
    events = "|".join(names(mask))
    shown = [each for each in (old_name, name) if each is not None]
    literal_name = " " * bool(shown) + " -> ".join(map(repr, shown))
    literal_watch = "" if watch is None else f"{os.fsencode(watch)!r}: "
    number = "" if cookie is None else f" #{cookie}"
    plain_name = " " * bool(shown) + " -> ".join(map(_as_text, shown))
    plain_watch = literal_watch if watch is None else f"{_as_text(os.fsencode(watch))}: "
    for before, behind in (
        (plain_watch, plain_name),
        (plain_watch, literal_name),
        (literal_watch, plain_name),
    ):
        line = f"{before}{events}{behind}{number}"
        if _reads_as(line, meant):
            return line
    return f"{literal_watch}{events}{literal_name}{number}"


def _mask_of_record(text: str, line: str) -> int:
    mask = 0
    for word in text.split("|"):
        if word in GROUPS:
            several = " or ".join(names(GROUPS[word]))
            raise ValueError(f"'{line}': {word} is several events: a record has one, {several}")
        if word not in SINGLE_BITS:
            raise unknown_word(word, SINGLE_BITS, line)
        mask |= SINGLE_BITS[word]
    return mask


def _reads_as(line: str, meant: Expected) -> bool:
    try:
        return parse(line) == meant
    except ValueError:
        return False


def _as_text(name: bytes) -> str:
    """Return a name as plain text, or as a bytes literal if people could not read it."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return repr(name)
    return text if text.isprintable() and text == text.strip() else repr(name)


def _from_text(text: str) -> bytes:
    if re.fullmatch(_LITERAL, text):
        value = ast.literal_eval(text)
        assert isinstance(value, bytes)
        return value
    return os.fsencode(text)
