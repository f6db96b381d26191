# SPDX-License-Identifier: GPL-2.0-or-later
"""The pairing of expected and seen records, in the four forms of a comparison.

Seen records have an order.  Expected ones are in the same order, or in any order
(any_order).  Either all seen records are expected, or there may be others
(at_least).  testing.expectations says which records fit each other;
testing.differences shows those that do not.

Cookies make this a search, since ``#1`` may stand for any of several cookies.
Choices of a cookie for each number are tried one after the other, the likeliest
first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from fusenotify.testing.expectations import Expected, Seen

# By index: expected record, seen record.
Pairs = dict[int, int]

# Bounds of the search: how many records are looked at, and how many cookies are tried.  The first
# choice is right, unless the same rename is seen again and again.
_MOST_RECORDS = 1_000_000
_MOST_STEPS = 100_000

_SAYS_WATCH = 1
_SAYS_COOKIE = 2


def matches(
    expected: Sequence[Expected], seen: Sequence[Seen], *, any_order: bool, at_least: bool
) -> bool:
    """Return whether the seen records are the expected ones."""
    if len(expected) > len(seen) or (len(expected) < len(seen) and not at_least):
        return False
    if not any_order and not at_least:
        pairs = {number: number for number in range(len(expected))}
        fit = all(one.fits(other) for one, other in zip(expected, seen, strict=True))
        return fit and not wrong_cookies(expected, seen, pairs)
    pairing = pairs_in_any_order if any_order else pairs_in_order
    if len(pairing(expected, seen, None)) < len(expected):
        return False
    choices = islice(_choices(expected, seen), 1 + _MOST_RECORDS // (len(seen) + 1))
    return any(len(pairing(expected, seen, choice)) == len(expected) for choice in choices)


def pairs_in_any_order(
    expected: Sequence[Expected], seen: Sequence[Seen], cookies: dict[int, int] | None = None
) -> Pairs:
    """Pair records that fit each other, in any order.

    cookies has the cookie for each number; without it cookies are not compared.
    """
    alike: dict[tuple[int, bytes | None], list[int]] = {}
    for index, record in enumerate(seen):
        alike.setdefault((record.mask, record.name), []).append(index)
    free = {key: list(indexes) for key, indexes in alike.items()}
    pairs: Pairs = {}
    left = []
    # Expected records that say most choose first; the others take what is left.
    for number in sorted(range(len(expected)), key=lambda number: -_said(expected[number])):
        wanted = expected[number]
        indexes = free.get((wanted.mask, wanted.name), [])
        for place, index in enumerate(indexes):
            if _fits(wanted, seen[index], cookies):
                pairs[number] = indexes.pop(place)
                break
        else:
            left.append(number)
    # A record with only a cookie may have taken what a record with only a watch needs.
    if {_said(one) for one in expected} >= {_SAYS_COOKIE, _SAYS_WATCH}:
        for number in left:
            wanted = expected[number]
            indexes = alike.get((wanted.mask, wanted.name), [])
            _make_room(number, indexes, pairs, lambda n, i: _fits(expected[n], seen[i], cookies))
    return pairs


def _make_room(
    number: int, indexes: Sequence[int], pairs: Pairs, fits: Callable[[int, int], bool]
) -> None:
    """Pair one more expected record, if others can change their partners: an augmenting path."""
    holders = {index: holder for holder, index in pairs.items()}
    wanted_by: dict[int, int] = {}
    waiting = [number]
    for waiter in waiting:
        for index in indexes:
            if index in wanted_by or not fits(waiter, index):
                continue
            wanted_by[index] = waiter
            if index in holders:
                waiting.append(holders[index])
                continue
            while True:  # each takes the partner that it wanted and leaves the one that it had
                taker = wanted_by[index]
                had = pairs.get(taker)
                pairs[taker] = index
                if had is None:
                    return
                index = had


def pairs_in_order(
    expected: Sequence[Expected], seen: Sequence[Seen], cookies: dict[int, int] | None
) -> Pairs:
    """Pair each expected record with the first fitting one after the previous pair."""
    pairs: Pairs = {}
    index = 0
    for number, wanted in enumerate(expected):
        while index < len(seen) and not _fits(wanted, seen[index], cookies):
            index += 1
        if index == len(seen):
            break
        pairs[number] = index
        index += 1
    return pairs


def wrong_cookies(expected: Sequence[Expected], seen: Sequence[Seen], pairs: Pairs) -> list[int]:
    """Return the expected records whose pair contradicts an earlier pair in its cookie."""
    cookies: dict[int, int] = {}
    numbers: dict[int, int] = {}
    wrong = []
    for number, index in sorted(pairs.items()):
        wanted, cookie = expected[number].cookie, seen[index].cookie
        if wanted is None:
            continue
        if cookies.setdefault(wanted, cookie) != cookie or numbers.setdefault(cookie, wanted) != (
            wanted
        ):
            wrong.append(number)
    return wrong


def _fits(wanted: Expected, record: Seen, cookies: dict[int, int] | None) -> bool:
    if not wanted.fits(record):
        return False
    return cookies is None or wanted.cookie is None or cookies[wanted.cookie] == record.cookie


def _said(wanted: Expected) -> int:
    says_cookie = _SAYS_COOKIE if wanted.cookie is not None else 0
    return says_cookie | (_SAYS_WATCH if wanted.watch is not None else 0)


def _choices(expected: Sequence[Expected], seen: Sequence[Seen]) -> Iterator[dict[int, int]]:
    """Yield the ways to give each number a cookie of its own with which all records could fit."""
    wanted: dict[int, list[Expected]] = {}
    for one in expected:
        if one.cookie is not None:
            wanted.setdefault(one.cookie, []).append(one)
    groups: dict[int, list[Seen]] = {}
    for record in seen:
        groups.setdefault(record.cookie, []).append(record)

    @functools.cache
    def possible_for(ones: tuple[Expected, ...]) -> list[int]:
        return [
            cookie
            for cookie, group in groups.items()
            if all(any(one.fits(record) for record in group) for one in ones)
        ]

    possible = [
        possible_for(tuple(replace(one, cookie=1) for one in ones)) for ones in wanted.values()
    ]
    # Depth first, without recursion since there may be thousands of renames.
    chosen: list[int] = []
    taken: set[int] = set()
    trying = [iter(possible[0])] if possible else []
    if not possible:
        yield {}
    for _ in range(_MOST_STEPS):
        if not trying:
            return
        if len(chosen) == len(trying):
            taken.discard(chosen.pop())
        cookie = next((cookie for cookie in trying[-1] if cookie not in taken), None)
        if cookie is None:
            trying.pop()
            continue
        chosen.append(cookie)
        taken.add(cookie)
        if len(chosen) == len(possible):
            yield dict(zip(wanted, chosen, strict=True))
        else:
            trying.append(iter(possible[len(chosen)]))
