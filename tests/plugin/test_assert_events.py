# SPDX-License-Identifier: GPL-2.0-or-later
"""assert_events: what passes in each of its forms, and what a failure shows."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from fusenotify.testing import (
    EngineDevice,
    EngineTree,
    MountDevice,
    TemporaryMount,
    assert_events,
)
from tests.counting import counted_calls


@pytest.fixture
def engine(fusenotify_engine: EngineTree) -> EngineTree:
    fusenotify_engine.prepare("a", "b", "docs/")
    return fusenotify_engine


@pytest.fixture
def device(engine: EngineTree) -> EngineDevice:
    device = engine.device()
    device.watch()
    return device


def two_renames(engine: EngineTree) -> None:
    engine.rename("a", "x")
    engine.rename("b", "y")


def write(engine: EngineTree) -> None:
    engine.write("a")


def cross(engine: EngineTree) -> None:
    engine.exchange("a", "b")


def nothing(engine: EngineTree) -> None:
    """Do nothing."""


def overlapping_renames(engine: EngineTree) -> None:
    engine.rename("a", "x")
    engine.rename("x", "a")
    engine.rename("a", "y")


TWO_RENAMES = ["MOVED_FROM a #1", "MOVED_TO x #1", "MOVED_FROM b #2", "MOVED_TO y #2"]
EXACT: dict[str, bool] = {}
ANY_ORDER = {"any_order": True}
AT_LEAST = {"at_least": True}
BOTH = ANY_ORDER | AT_LEAST


@pytest.mark.parametrize(
    ("form", "act", "expected"),
    [
        pytest.param(EXACT, nothing, [], id="nothing, and nothing happens"),
        pytest.param(EXACT, write, ["OPEN a", "MODIFY a", "CLOSE_WRITE a"], id="all in order"),
        pytest.param(EXACT, two_renames, TWO_RENAMES, id="cookies"),
        pytest.param(
            EXACT, two_renames, [line[:-3] for line in TWO_RENAMES], id="cookies left out"
        ),
        pytest.param(
            EXACT,
            two_renames,
            ["MOVED_FROM a #9", "MOVED_TO x #9", "MOVED_FROM b", "MOVED_TO y"],
            id="some cookies, any number",
        ),
        pytest.param(EXACT, write, [".: OPEN a", "MODIFY a", "CLOSE_WRITE a"], id="a watch"),
        pytest.param(ANY_ORDER, write, ["CLOSE_WRITE a", "OPEN a", "MODIFY a"], id="any order"),
        pytest.param(ANY_ORDER, two_renames, TWO_RENAMES[::-1], id="any order, cookies"),
        pytest.param(
            ANY_ORDER,
            cross,
            ["MOVED_FROM b #1", "MOVED_FROM a #2", "MOVED_TO a #1", "MOVED_TO b #2"],
            id="any order, cookies crossed",
        ),
        pytest.param(
            ANY_ORDER,
            overlapping_renames,
            [
                *("MOVED_FROM a #1", "MOVED_TO y #1", "MOVED_FROM a #2", "MOVED_TO x #2"),
                *("MOVED_TO a", "MOVED_FROM x"),
            ],
            id="any order, the first cookie that fits is not the one",
        ),
        pytest.param(AT_LEAST, write, [], id="at least nothing"),
        pytest.param(AT_LEAST, write, ["OPEN a", "CLOSE_WRITE a"], id="at least these"),
        pytest.param(
            AT_LEAST,
            overlapping_renames,
            ["MOVED_FROM a #1", "MOVED_TO y #1"],
            id="at least a rename that is not the first of this name",
        ),
        pytest.param(BOTH, write, ["CLOSE_WRITE a", "OPEN a"], id="at least these, any order"),
        pytest.param(BOTH, two_renames, TWO_RENAMES[:1:-1], id="at least, any order, cookies"),
    ],
)
def test_passes(
    form: dict[str, bool],
    act: Callable[[EngineTree], None],
    expected: list[str],
    engine: EngineTree,
    device: EngineDevice,
) -> None:
    act(engine)
    assert_events(device, expected, **form)
    assert device.take() == []


@pytest.mark.parametrize(
    ("form", "act", "expected", "shown"),
    [
        pytest.param(
            EXACT,
            write,
            ["OPEN a", "CLOSE_NOWRITE a"],
            """\
            not the expected records (- expected, + got):
                OPEN a
              - CLOSE_NOWRITE a
              + MODIFY a
              + CLOSE_WRITE a
            2 expected, 3 got""",
            id="another event",
        ),
        pytest.param(
            EXACT,
            nothing,
            ["OPEN a"],
            """\
            not the expected records (- expected, + got):
              - OPEN a
            1 expected, 0 got""",
            id="nothing came",
        ),
        pytest.param(
            EXACT,
            write,
            [],
            """\
            not the expected records (- expected, + got):
              + OPEN a
              + MODIFY a
              + CLOSE_WRITE a
            0 expected, 3 got""",
            id="silence was expected",
        ),
        pytest.param(
            EXACT,
            write,
            ["MODIFY a", "OPEN a", "CLOSE_WRITE a"],
            """\
            not the expected records (- expected, + got):
              - MODIFY a
                OPEN a
              + MODIFY a
                CLOSE_WRITE a
            3 expected, 3 got""",
            id="another order",
        ),
        pytest.param(
            EXACT,
            write,
            ["docs: OPEN a", "MODIFY a", "CLOSE_WRITE a"],
            """\
            not the expected records (- expected, + got):
              - docs: OPEN a
              + .: OPEN a
                .: MODIFY a
                .: CLOSE_WRITE a
            3 expected, 3 got""",
            id="another watch",
        ),
        pytest.param(
            EXACT,
            two_renames,
            ["MOVED_FROM a #1", "MOVED_TO x #1", "MOVED_FROM b #1", "MOVED_TO y #1"],
            """\
            not the expected records (- expected, + got):
                MOVED_FROM a #1
                MOVED_TO x #1
              - MOVED_FROM b #1
              - MOVED_TO y #1
              + MOVED_FROM b #2
              + MOVED_TO y #2
            4 expected, 4 got""",
            id="one cookie expected, two came",
        ),
        pytest.param(
            EXACT,
            two_renames,
            ["MOVED_FROM a #1", "MOVED_TO x #2", "MOVED_FROM b #3", "MOVED_TO y #3"],
            """\
            not the expected records (- expected, + got):
                MOVED_FROM a #1
              - MOVED_TO x #2
              + MOVED_TO x #1
                MOVED_FROM b #3
                MOVED_TO y #3
            4 expected, 4 got""",
            id="two cookies expected, one came",
        ),
        pytest.param(
            ANY_ORDER,
            write,
            ["CLOSE_WRITE a", "OPEN a", "OPEN a"],
            """\
            not the expected records, in any order (- expected, + got):
                OPEN a
              + MODIFY a
                CLOSE_WRITE a
              - OPEN a
            3 expected, 3 got""",
            id="any order",
        ),
        pytest.param(
            AT_LEAST,
            write,
            ["MODIFY a", "OPEN a"],
            """\
            not all expected records came (- missing, + others, which are allowed):
              - MODIFY a
                OPEN a
              + MODIFY a
              + CLOSE_WRITE a
            2 expected, 3 got""",
            id="at least, in order",
        ),
        pytest.param(
            BOTH,
            write,
            ["CREATE b'\\xe9'", "OPEN a"],
            """\
            not all expected records came, in any order (- missing, + others, which are allowed):
                OPEN a
              + MODIFY a
              + CLOSE_WRITE a
              - CREATE b'\\xe9'
            2 expected, 3 got""",
            id="at least, any order",
        ),
    ],
)
def test_a_failure_shows_the_difference(
    form: dict[str, bool],
    act: Callable[[EngineTree], None],
    expected: list[str],
    shown: str,
    engine: EngineTree,
    device: EngineDevice,
) -> None:
    act(engine)
    with pytest.raises(AssertionError) as failed:
        assert_events(device, expected, **form)
    assert str(failed.value) == dedent(shown)


def test_a_failure_names_the_watches_where_there_are_several(
    engine: EngineTree, device: EngineDevice
) -> None:
    device.watch("a")
    engine.chmod("a")
    with pytest.raises(AssertionError) as failed:
        assert_events(device, ["ATTRIB a"])
    assert str(failed.value).splitlines()[1:3] == ["    .: ATTRIB a", "  + a: ATTRIB"]


def test_long_runs_that_agree_are_folded(engine: EngineTree, device: EngineDevice) -> None:
    names = [f"f{number}" for number in range(100)]
    for name in names:
        engine.create(name)
    expected = [f"CREATE {name}" for name in names]
    expected[50] = "DELETE f50"
    with pytest.raises(AssertionError) as failed:
        assert_events(device, expected)
    assert str(failed.value).splitlines() == [
        "not the expected records (- expected, + got):",
        "    ... 47 more that agree",
        *("    CREATE f47", "    CREATE f48", "    CREATE f49"),
        *("  - DELETE f50", "  + CREATE f50"),
        *("    CREATE f51", "    CREATE f52", "    CREATE f53"),
        "    ... 46 more that agree",
        "100 expected, 100 got",
    ]


@pytest.mark.parametrize("form", [EXACT, ANY_ORDER, AT_LEAST, BOTH], ids=str)
@pytest.mark.parametrize("wrong", [False, True], ids=["passes", "fails"])
def test_thousands_of_records_are_compared_in_a_moment(
    form: dict[str, bool], wrong: bool, engine: EngineTree, device: EngineDevice
) -> None:
    expected = []
    for number in range(3000):
        engine.rename("a", "x")
        engine.rename("x", "a")
        expected += [f"MOVED_FROM a #{2 * number + 1}", f"MOVED_TO x #{2 * number + 1}"]
        expected += [f"MOVED_FROM x #{2 * number + 2}", f"MOVED_TO a #{2 * number + 2}"]
    engine.chmod("b")
    expected += ["MODIFY b" if wrong else "ATTRIB b"]
    with counted_calls() as calls:
        if wrong:
            with pytest.raises(AssertionError, match=r"- MODIFY b"):
                assert_events(device, expected, **form)
        else:
            assert_events(device, expected, **form)
    assert calls.number < 200 * len(expected)


class Unfenced(EngineDevice):
    """A device of which a record is under way until the fence."""

    def __init__(self, engine: EngineTree) -> None:
        super().__init__(engine.table.init(0), engine)
        self._engine = engine

    def sync(self) -> None:
        self._engine.create("late")


def test_records_are_taken_after_a_fence(engine: EngineTree) -> None:
    device = Unfenced(engine)
    device.watch()
    assert_events(device, ["CREATE late"])


@pytest.mark.mount
def test_closes_under_way_are_waited_for(
    fusenotify_mount: TemporaryMount, fusenotify_device: MountDevice
) -> None:
    names = [f"f{number}" for number in range(200)]
    files = [(fusenotify_mount.path / name).open("w") for name in names]
    fusenotify_device.watch(".", "CLOSE_WRITE")
    for file in files:
        file.close()
    assert_events(fusenotify_device, [f"CLOSE_WRITE {name}" for name in names])


def test_a_wrong_line_is_refused_before_records_are_taken(
    engine: EngineTree, device: EngineDevice
) -> None:
    engine.chmod("a")
    with pytest.raises(ValueError, match="did you mean ATTRIB"):
        assert_events(device, ["ATRIB a"])
    assert_events(device, ["ATTRIB a"])


def test_one_text_instead_of_a_list_is_refused(device: EngineDevice) -> None:
    with pytest.raises(TypeError, match=r"a list of lines, not one str: \['CREATE a'\]"):
        assert_events(device, "CREATE a")


def test_an_object_that_is_not_a_device_is_refused(engine: EngineTree) -> None:
    with pytest.raises(TypeError, match=r"have records, and <EngineTree .* is not a device"):
        assert_events(engine, [])  # type: ignore[arg-type]
