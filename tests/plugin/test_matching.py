# SPDX-License-Identifier: GPL-2.0-or-later
"""Matching agrees with its definition: some pairing of expected with seen records works."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

from hypothesis import example, given
from hypothesis import strategies as st

from fusenotify.masks import IN_CREATE, IN_MOVED_FROM, IN_MOVED_TO
from fusenotify.testing.expectations import Expected, Seen
from fusenotify.testing.matching import matches, wrong_cookies

MASKS = st.sampled_from([IN_CREATE, IN_MOVED_FROM, IN_MOVED_TO])
SEEN = st.lists(
    st.builds(
        Seen,
        watch=st.sampled_from(["d", "e"]),
        mask=MASKS,
        name=st.sampled_from([b"a", b"b"]),
        cookie=st.integers(0, 3),
    ),
    max_size=5,
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Expected], list[Seen]]:
    """What was seen, and much of the same expected, in another order or with a slip."""
    seen = draw(SEEN)
    chosen = draw(st.permutations(seen))[: draw(st.integers(0, len(seen)))]
    expected = [
        Expected(
            record.mask,
            draw(st.sampled_from([record.name] * 4 + [b"a"])),
            draw(st.sampled_from([None, record.watch])),
            draw(st.sampled_from([None, record.cookie or None, 1])),
        )
        for record in chosen
    ]
    return expected, seen


def by_definition(
    expected: Sequence[Expected], seen: Sequence[Seen], *, any_order: bool, at_least: bool
) -> bool:
    if len(seen) != len(expected) and not at_least:
        return False
    choose = permutations if any_order else combinations
    for indexes in choose(range(len(seen)), len(expected)):
        fit = all(one.fits(seen[index]) for one, index in zip(expected, indexes, strict=True))
        if fit and not wrong_cookies(expected, seen, dict(enumerate(indexes))):
            return True
    return False


# What says only a watch needs the record that what says only a cookie would take first.
BOTH_WANT_D = (
    [Expected(IN_MOVED_TO, b"a", None, 1), Expected(IN_MOVED_TO, b"a", "d")],
    [Seen("d", IN_MOVED_TO, b"a", 5), Seen("e", IN_MOVED_TO, b"a", 5)],
)


@example(case=BOTH_WANT_D, any_order=True, at_least=False)
@given(case=cases(), any_order=st.booleans(), at_least=st.booleans())
def test_matches_if_any_pairing_matches(
    case: tuple[list[Expected], list[Seen]], any_order: bool, at_least: bool
) -> None:
    expected, seen = case
    found = matches(expected, seen, any_order=any_order, at_least=at_least)
    assert found == by_definition(expected, seen, any_order=any_order, at_least=at_least)
