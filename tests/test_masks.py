# SPDX-License-Identifier: GPL-2.0-or-later
"""Masks: what is written of them is read as the same, and what is none is refused."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusenotify import bits, masks
from fusenotify.masks import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_ONESHOT,
    Mask,
    plain,
)

ANY_MASK = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("mask", "shown", "written"),
    [
        pytest.param(IN_CREATE, "CREATE", "IN_CREATE", id="one bit"),
        pytest.param(IN_CREATE | IN_ISDIR, "CREATE|ISDIR", "IN_CREATE|IN_ISDIR", id="two"),
        pytest.param(
            IN_ALL_EVENTS | IN_ONESHOT, "ALL_EVENTS|ONESHOT", "IN_ALL_EVENTS|IN_ONESHOT", id="all"
        ),
        pytest.param(Mask(0x1100), "CREATE|0x1000", "IN_CREATE|0x1000", id="a bit without a name"),
        pytest.param(Mask(0), "0", "Mask(0)", id="none"),
    ],
)
def test_a_mask_shows_what_it_is(mask: Mask, shown: str, written: str) -> None:
    assert (str(mask), f"{mask}", repr(mask)) == (shown, shown, written)


@given(ANY_MASK)
def test_a_shown_mask_is_read_as_the_same(mask: int) -> None:
    assert plain(str(Mask(mask))) == mask
    assert eval(repr(Mask(mask)), vars(masks).copy()) == mask


@given(ANY_MASK, ANY_MASK)
def test_a_mask_calculates_as_the_int_that_it_is(one: int, other: int) -> None:
    mask = Mask(one)
    for it in (other, Mask(other)):
        assert (mask & it, mask | it, mask ^ it) == (one & other, one | other, one ^ other)
        assert type(mask & it) is type(it & mask) is type(mask | it) is Mask
    assert mask == one == int(mask)
    assert hash(mask) == hash(one)
    assert pickle.loads(pickle.dumps(mask)) == json.loads(json.dumps(mask)) == mask
    assert f"{mask:#x}" == hex(one)


def test_every_bit_has_its_name_in_both_modules() -> None:
    names = {name for name in vars(bits) if name.startswith("IN_")}
    assert names == {f"IN_{name}" for name in Mask.__members__}
    for name in names:
        assert getattr(bits, name) == getattr(masks, name)
        assert type(getattr(bits, name)) is int
        assert type(getattr(masks, name)) is Mask


@pytest.mark.parametrize(
    ("given", "mask"),
    [
        (0x300, 0x300),
        (IN_CREATE | IN_DELETE, 0x300),
        ("CREATE", 0x100),
        ("CREATE|DELETE|ONESHOT", 0x80000300),
        ("create, IN_DELETE", 0x300),
        ("close", 0x18),
        (["create"], 0x100),
        (("CREATE|DELETE", IN_ISDIR, 1), 0x40000301),
        (iter(["create"]), 0x100),
        ([], 0),
    ],
)
def test_a_mask_may_be_words(given: Any, mask: int) -> None:
    assert plain(given) == mask
    assert type(plain(given)) is int


@pytest.mark.parametrize("given", [None, True, 1.0, b"CREATE", [None], [["create"]], [b"a"], {1.5}])
def test_an_invalid_type_of_mask_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="a mask is an int, words such as"):
        plain(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("CREATE|CLOSED", r"^'CREATE\|CLOSED': CLOSED is not an event; did you mean CLOSE"),
        (["CRAETE"], "^'CRAETE': CRAETE is not an event; did you mean CREATE"),
        ("frobnicate", "frobnicate is not an event; there are ACCESS, MODIFY"),
        ("CREATE|", "an empty word is not an event"),
        ("", "an empty word is not an event"),
    ],
)
def test_a_word_that_is_no_event_is_named(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain(given)
