# SPDX-License-Identifier: GPL-2.0-or-later
"""Each difference between the two semantics is one row of a table, and has its effect.

A scenario per field of Policy: it answers one thing under linux-2.6.18 and
another under linux-6, and it is that field alone that decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_EXCL_UNLINK,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_ONESHOT,
    IN_OPEN,
    names,
)
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_2_6_18, LINUX_6, Policy
from fusenotify.errors import NotifyError
from fusenotify.events import Event, unpack
from tests.conftest import REPOSITORY

FIELDS = [field.name for field in fields(Policy) if field.name != "name"]
UNKNOWN_BIT = 0x1000
# A record with a name of one letter.
RECORD = 32

Seen = list[str]


@dataclass(frozen=True)
class Row:
    """What a scenario shows under each semantics."""

    scenario: Callable[[Policy], Seen]
    linux_2_6_18: Seen
    linux_6: Seen


ROWS: dict[str, Row] = {}


def row(*, linux_2_6_18: Seen, linux_6: Seen) -> Callable[[Callable[[Policy], Seen]], object]:
    """Register a scenario for the field of its name."""

    def register(scenario: Callable[[Policy], Seen]) -> Callable[[Policy], Seen]:
        ROWS[scenario.__name__] = Row(scenario, linux_2_6_18, linux_6)
        return scenario

    return register


class Watching:
    """A device and a directory, which is watched by default."""

    def __init__(
        self, policy: Policy, *, max_queued_events: int | None = None, mask: int = IN_ALL_EVENTS
    ) -> None:
        self.core = Core()
        self.limits = Limits()
        table = DeviceTable(self.core, self.limits, policy)
        self.device = table.init(1000, max_queued_events=max_queued_events)
        self.directory = Inode(is_dir=True)
        if mask:
            self.device.add_watch(self.directory, mask)

    def happens(self, mask: int, name: bytes, cookie: int = 0, unlinked: bool = False) -> None:
        self.core.queue_event(self.directory, mask, cookie, name, unlinked)

    def events(self) -> list[Event]:
        return list(unpack(self.device.read(65536))) if self.device.poll() else []

    def seen(self) -> Seen:
        """Return what is queued in words: masks, and names where there are some."""
        return [
            " ".join(["|".join(names(event.mask)), *([event.name.decode()] if event.name else [])])
            for event in self.events()
        ]


def answer(call: Callable[..., Any], *arguments: Any) -> str:
    """Return what a call gave, or the name of its refusal."""
    try:
        return str(call(*arguments))
    except NotifyError as refusal:
        return type(refusal).__name__


@row(linux_2_6_18=["MODIFY a", "MODIFY b"], linux_6=["MODIFY a", "MODIFY b", "MODIFY a"])
def merge_with_newest(policy: Policy) -> Seen:
    watching = Watching(policy)
    for name in (b"a", b"b", b"a"):
        watching.happens(IN_MODIFY, name)
    return watching.seen()


@row(linux_2_6_18=["MOVED_FROM a", "MOVED_FROM a"], linux_6=["MOVED_FROM a"])
def merge_compares_cookies(policy: Policy) -> Seen:
    watching = Watching(policy)
    for cookie in (1, 2):
        watching.happens(IN_MOVED_FROM, b"a", cookie)
    return watching.seen()


@row(linux_2_6_18=["MODIFY a"], linux_6=["MODIFY a", "Q_OVERFLOW"])
def merge_into_full_queue(policy: Policy) -> Seen:
    watching = Watching(policy, max_queued_events=1)
    for _ in range(2):
        watching.happens(IN_MODIFY, b"a")
    return watching.seen()


@row(linux_2_6_18=["0", "7"], linux_6=["0", "0"])
def overflow_keeps_cookie(policy: Policy) -> Seen:
    watching = Watching(policy, max_queued_events=1)
    watching.happens(IN_MODIFY, b"a")
    watching.happens(IN_MOVED_FROM, b"b", 7)
    return [str(event.cookie) for event in watching.events()]


@row(
    linux_2_6_18=["MODIFY b", "Q_OVERFLOW", "Q_OVERFLOW"],
    linux_6=["MODIFY b", "Q_OVERFLOW"],
)
def overflow_repeats(policy: Policy) -> Seen:
    watching = Watching(policy, max_queued_events=2)
    for name in (b"a", b"b", b"c"):
        watching.happens(IN_MODIFY, name)
    watching.device.read(RECORD)
    watching.happens(IN_MODIFY, b"d")
    return watching.seen()


@row(linux_2_6_18=["CREATE a"], linux_6=["CREATE a", "IGNORED"])
def oneshot_ends_with_ignored(policy: Policy) -> Seen:
    watching = Watching(policy, mask=IN_CREATE | IN_ONESHOT)
    for name in (b"a", b"b"):
        watching.happens(IN_CREATE, name)
    return watching.seen()


@row(linux_2_6_18=["b''"], linux_6=["BufferTooSmall"])
def short_read_is_error(policy: Policy) -> Seen:
    watching = Watching(policy)
    watching.happens(IN_MODIFY, b"a")
    return [answer(watching.device.read, RECORD - 1)]


@row(
    linux_2_6_18=["None", "InvalidMask", "1", "InvalidMask", "2"],
    linux_6=["InvalidMask", "InvalidMask", "InvalidMask", "1", "InvalidMask"],
)
def strict_masks(policy: Policy) -> Seen:
    device = Watching(policy, mask=0).device
    before_the_path = answer(device.check_mask, 0)
    return [
        before_the_path,
        *[
            answer(device.add_watch, Inode(is_dir=True), mask)
            for mask in (
                0,
                IN_OPEN | UNKNOWN_BIT,
                IN_MASK_ADD,
                IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE,
            )
        ],
    ]


@row(linux_2_6_18=["MODIFY a"], linux_6=[])
def watch_bits(policy: Policy) -> Seen:
    watching = Watching(policy, mask=IN_MODIFY | IN_EXCL_UNLINK)
    watching.happens(IN_MODIFY, b"a", unlinked=True)
    return watching.seen()


@row(linux_2_6_18=["1"], linux_6=["WatchExists"])
def honours_mask_create(policy: Policy) -> Seen:
    watching = Watching(policy)
    return [answer(watching.device.add_watch, watching.directory, IN_OPEN | IN_MASK_CREATE)]


@row(linux_2_6_18=["TooManyWatches", "1"], linux_6=["TooManyWatches", "2"])
def refusal_takes_wd(policy: Policy) -> Seen:
    watching = Watching(policy, mask=0)
    answers = []
    for limit in (0, 1):
        watching.limits.max_user_watches = limit
        answers.append(answer(watching.device.add_watch, watching.directory, IN_OPEN))
    return answers


@row(linux_2_6_18=["UNMOUNT", "IGNORED"], linux_6=["UNMOUNT|ISDIR", "IGNORED"])
def unmount_tells_isdir(policy: Policy) -> Seen:
    watching = Watching(policy)
    watching.core.unmount([watching.directory])
    return watching.seen()


@pytest.mark.parametrize("field", FIELDS)
def test_the_field_alone_decides(field: str) -> None:
    tested = ROWS[field]
    with_old = replace(LINUX_6, **{field: getattr(LINUX_2_6_18, field)})
    with_new = replace(LINUX_2_6_18, **{field: getattr(LINUX_6, field)})
    assert tested.scenario(LINUX_2_6_18) == tested.linux_2_6_18
    assert tested.scenario(LINUX_6) == tested.linux_6
    assert tested.scenario(with_old) == tested.linux_2_6_18
    assert tested.scenario(with_new) == tested.linux_6
    assert tested.linux_2_6_18 != tested.linux_6


def test_the_documented_table_has_a_row_for_each_field_and_no_other() -> None:
    text = (REPOSITORY / "docs" / "reference" / "semantics.md").read_text()
    (table,) = re.findall(r"^## Where they differ$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == FIELDS
