# SPDX-License-Identifier: GPL-2.0-or-later
"""What is called met and missed; nothing is mounted or timed."""

from __future__ import annotations

import math

import pytest

from tests.bench.results import Results
from tests.bench.targets import Goal, Target, markdown


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        pytest.param(Target("x", "y", 1.0, 1.0), "met", id="just as much as promised"),
        pytest.param(Target("x", "y", 1.0, 1.01), "missed", id="a little more"),
        pytest.param(Target("x", "y", 10, 9, "/s", True), "missed", id="less than at least"),
        pytest.param(Target("x", "y", 10, 11, "/s", True), "met", id="more than at least"),
        pytest.param(Target("x", "y", 1.0, math.nan), "not measured", id="who could not do it"),
        pytest.param(Target("x", "y", None, 5.0, "µs"), "", id="nothing was promised"),
    ],
)
def test_verdict(target: Target, verdict: str) -> None:
    assert target.verdict == verdict


def test_a_program_that_failed_once_on_a_peer_is_not_measured_there() -> None:
    results = Results(("make", "rm"))
    results.add_round({"ours": {"make": 1.0, "rm": 2.0}, "peer": {"make": 2.0, "rm": 2.0}})
    results.add_round({"ours": {"make": 1.0, "rm": 2.0}, "peer": {"make": 2.0}})
    goal = Goal(("make", "rm"), ("ours",), ("peer", "absent"), at_most=0.5)
    make, rm = goal.targets("work", results)
    assert (make.measured, make.verdict) == (0.5, "met")
    assert rm.verdict == "not measured"


def test_markdown_has_a_line_for_each_target() -> None:
    targets = [Target("work: make", "ours / peer", 1.0, 0.954), Target("drain", "a", 5, 1, "/s")]
    assert markdown(targets).splitlines()[2:] == [
        "| work: make | ours / peer | at most 1 | 0.95 | met |",
        "| drain | a | at most 5 /s | 1 /s | met |",
    ]
