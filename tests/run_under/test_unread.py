# SPDX-License-Identifier: GPL-2.0-or-later
"""The queue of what is unread, in the pipe or not: it merges and overflows as one."""

from __future__ import annotations

import pytest

from fusenotify.events import Event
from fusenotify.run.unread import RULES, Unread

A, B = Event(1, 2, 0, b"a"), Event(1, 2, 0, b"b")
MODERN, OLD = RULES["linux-6"], RULES["linux-2.6.18"]
OVERFLOW = Event(-1, 0x4000)


def queued(unread: Unread) -> list[Event]:
    assert unread.size() == sum(len(record) for _, record in unread.head(1 << 20))
    return [event for event, _ in unread.head(1 << 20)]


@pytest.mark.parametrize(
    ("rules", "most", "arriving", "left"),
    [
        pytest.param(MODERN, 8, [A, A], [A], id="equal neighbours merge"),
        pytest.param(MODERN, 8, [A, B, A], [A, B, A], id="only the newest is compared"),
        pytest.param(OLD, 8, [A, B, A], [A, B], id="only the oldest was compared"),
        pytest.param(MODERN, 8, [A, A._replace(cookie=7)], [A], id="cookies are ignored"),
        pytest.param(MODERN, 1, [A, B, A], [A, OVERFLOW], id="overflow is told once"),
        pytest.param(MODERN, 1, [A, A], [A, OVERFLOW], id="a full queue does not merge"),
        pytest.param(OLD, 1, [A, A], [A], id="a full queue did merge"),
        pytest.param(MODERN, 8, [A, OVERFLOW, OVERFLOW], [A, OVERFLOW], id="a device's overflow"),
        pytest.param(OLD, 0, [A._replace(cookie=7)], [OVERFLOW._replace(cookie=7)], id="cookie"),
    ],
)
def test_what_is_queued(rules: object, most: int, arriving: list[Event], left: list[Event]) -> None:
    unread = Unread(rules, most)  # type: ignore[arg-type]
    unread.add(arriving)
    assert queued(unread) == left


def test_what_is_in_the_pipe_counts_and_merges() -> None:
    unread = Unread(MODERN, 2)
    unread.add([A])
    unread.written(len(unread.next_for_pipe(4096)))
    unread.add([A, B, A])
    assert queued(unread) == [A, B, OVERFLOW]


def test_what_was_read_from_the_pipe_makes_room() -> None:
    unread = Unread(MODERN, 2)
    unread.add([A, B])
    unread.written(len(unread.next_for_pipe(4096)))
    assert unread.consumed(32) == 0
    unread.add([A])
    assert queued(unread) == [B, A]


@pytest.mark.parametrize("was_read", [False, True])
def test_an_event_merges_only_with_one_that_is_still_in_the_pipe(was_read: bool) -> None:
    unread = Unread(MODERN, 2)
    unread.add([A])
    unread.written(len(unread.next_for_pipe(4096)))
    unread.add([A], lambda: unread.consumed(0 if was_read else 32))
    assert (queued(unread), unread.in_pipe) == ([A], 0 if was_read else 1)


def test_a_record_that_was_read_in_part_is_forgotten() -> None:
    unread = Unread(MODERN, 8)
    unread.add([A, B])
    unread.written(len(unread.next_for_pipe(4096)))
    assert unread.consumed(40) == 8
    assert queued(unread) == [B]


def test_a_buffer_too_small_is_refused_as_the_semantics_say() -> None:
    for rules in (MODERN, OLD):
        unread = Unread(rules, 8)
        unread.add([A])
        if rules.short_read_is_error:
            with pytest.raises(OSError, match="too small"):
                unread.head(16)
        else:
            assert unread.head(16) == []


def test_what_is_put_back_comes_first_even_if_the_queue_is_full() -> None:
    unread = Unread(MODERN, 2)
    unread.add([A, B, A])
    unread.take(1)
    unread.add([B])
    unread.put_back([A])
    assert queued(unread) == [A, B, OVERFLOW]
