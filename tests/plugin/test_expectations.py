# SPDX-License-Identifier: GPL-2.0-or-later
"""Records as text: what is written is read as the same, and what is wrong is named."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusenotify.masks import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
)
from fusenotify.testing.expectations import Expected, Seen, parse, spell

LINES = [
    pytest.param("CREATE a", Expected(IN_CREATE, b"a"), id="a name"),
    pytest.param("CREATE|ISDIR sub", Expected(IN_CREATE | IN_ISDIR, b"sub"), id="two bits"),
    pytest.param("Q_OVERFLOW", Expected(IN_Q_OVERFLOW), id="no name"),
    pytest.param("docs/new: CREATE a", Expected(IN_CREATE, b"a", "docs/new"), id="a watch"),
    pytest.param(".: CREATE a", Expected(IN_CREATE, b"a", "."), id="the root's watch"),
    pytest.param("MOVED_FROM a #2", Expected(IN_MOVED_FROM, b"a", None, 2), id="a cookie's number"),
    pytest.param(
        "CREATE my file.txt", Expected(IN_CREATE, b"my file.txt"), id="a name with spaces"
    ),
    pytest.param(
        "my docs: CREATE a", Expected(IN_CREATE, b"a", "my docs"), id="a watch with spaces"
    ),
    pytest.param("CREATE #notes#", Expected(IN_CREATE, b"#notes#"), id="a name with signs"),
    pytest.param("CREATE é", Expected(IN_CREATE, "é".encode()), id="a name in UTF-8"),
    pytest.param(r"CREATE b'\xe9'", Expected(IN_CREATE, b"\xe9"), id="a name that is not UTF-8"),
    pytest.param(r"CREATE b'a\nb'", Expected(IN_CREATE, b"a\nb"), id="a name of two lines"),
    pytest.param("CREATE b'#1'", Expected(IN_CREATE, b"#1"), id="a name like a cookie's number"),
    pytest.param("CREATE a: CREATE b", Expected(IN_CREATE, b"a: CREATE b"), id="like a record"),
    pytest.param("""CREATE b"b'a'\"""", Expected(IN_CREATE, b"b'a'"), id="a name like a literal"),
    pytest.param("CREATE b'a '", Expected(IN_CREATE, b"a "), id="a name that ends in a space"),
    pytest.param(
        "b'CREATE x': CREATE a", Expected(IN_CREATE, b"a", "CREATE x"), id="a watch like a record"
    ),
    pytest.param(
        r"b'\xe9: x': CREATE a #1",
        Expected(IN_CREATE, b"a", os.fsdecode(b"\xe9: x"), 1),
        id="a watch as literal",
    ),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_line_is_read_and_written(line: str, expected: Expected) -> None:
    assert parse(line) == expected
    assert str(expected) == line


NAMES = st.binary(min_size=1) | (
    st.text("ab :#|1'\"\\CREAT", min_size=1) | st.text("a ->b", min_size=3)
).map(str.encode)


@given(
    name=st.none() | NAMES,
    watch=st.none() | NAMES.map(os.fsdecode),
    cookie=st.none() | st.integers(1, 99),
    old=st.none() | NAMES,
    mask=st.sampled_from([IN_CREATE, IN_DELETE | IN_ISDIR]),
)
def test_any_record_is_read_as_it_was_written(
    name: bytes | None, watch: str | None, cookie: int | None, old: bytes | None, mask: int
) -> None:
    old = None if name is None else old
    line = spell(mask, name, watch, cookie, old)
    assert parse(line) == Expected(mask, name, watch, cookie, old)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            "", "'' is not a record: write [WATCH: ]EVENTS[ [OLD -> ]NAME][ #COOKIE]", id="nothing"
        ),
        pytest.param("create a", "'create a' is not a record", id="small letters"),
        pytest.param(
            "CRAETE a", "'CRAETE a': CRAETE is not an event; did you mean CREATE?", id="a slip"
        ),
        pytest.param(
            "IN_CREATE a", "IN_CREATE is not an event; did you mean CREATE?", id="the C name"
        ),
        pytest.param(
            "FROBNICATE", "FROBNICATE is not an event; there are ACCESS, MODIFY", id="nonsense"
        ),
        pytest.param(
            "CLOSE a",
            "'CLOSE a': CLOSE is several events: a record has one, CLOSE_WRITE or CLOSE_NOWRITE",
            id="a group of events",
        ),
        pytest.param("CREATE|", "'CREATE|' is not a record", id="half a mask"),
    ],
)
def test_a_wrong_line_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse(line)
    assert str(refused.value).startswith(message) or message in str(refused.value)


def test_a_record_that_is_not_a_text_is_refused() -> None:
    with pytest.raises(TypeError, match=r"text such as 'CREATE name', not \(IN_CREATE, b'a'\)"):
        parse((IN_CREATE, b"a"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expected", "seen", "fits"),
    [
        pytest.param("CREATE a", Seen("docs", IN_CREATE, b"a"), True, id="any watch"),
        pytest.param("docs: CREATE a", Seen("docs", IN_CREATE, b"a"), True, id="this watch"),
        pytest.param("docs: CREATE a", Seen("doc", IN_CREATE, b"a"), False, id="another watch"),
        pytest.param("CREATE a", Seen(".", IN_CREATE, b"b"), False, id="another name"),
        pytest.param("MOVED_TO a -> b", Seen(".", IN_MOVED_TO, b"b", 0, b"a"), True, id="renamed"),
        pytest.param("MOVED_TO a -> b", Seen(".", IN_MOVED_TO, b"b"), False, id="no old name"),
        pytest.param("MOVED_TO b", Seen(".", IN_MOVED_TO, b"b", 0, b"a"), False, id="an old name"),
        pytest.param("CREATE", Seen(".", IN_CREATE, b"a"), False, id="a name too much"),
        pytest.param("CREATE a", Seen(".", IN_CREATE), False, id="no name"),
        pytest.param("CREATE a", Seen(".", IN_CREATE | IN_ISDIR, b"a"), False, id="a bit too much"),
        pytest.param("MOVED_FROM a", Seen(".", IN_MOVED_FROM, b"a", 7), True, id="any cookie"),
        pytest.param("MOVED_FROM a #1", Seen(".", IN_MOVED_FROM, b"a", 7), True, id="a cookie"),
        pytest.param("CLOSE_WRITE a #1", Seen(".", IN_CLOSE_WRITE, b"a"), False, id="no cookie"),
    ],
)
def test_fits(expected: str, seen: Seen, fits: bool) -> None:
    assert parse(expected).fits(seen) is fits
