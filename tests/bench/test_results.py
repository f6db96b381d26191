# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic behind the benchmark's tables; nothing is mounted or timed."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from tests.bench.results import Results, ratio_text


def results_of(**rounds: list[float]) -> Results:
    """Return results of one operation, "stat": the seconds of each filesystem's rounds."""
    results = Results(("stat",))
    for samples in zip(*rounds.values(), strict=True):
        results.add_round(
            {name: {"stat": took} for name, took in zip(rounds, samples, strict=True)}
        )
    return results


def test_the_median_round_decides_and_a_disturbed_one_does_not() -> None:
    assert results_of(native=[1.0, 900.0, 3.0]).median("native", "stat") == 3.0


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        pytest.param([6.0], [2.0], 3.0, id="our time over theirs"),
        pytest.param([2.0, 20.0, 200.0], [1.0, 10.0, 100.0], 2.0, id="a drift hits both alike"),
        pytest.param([1.0, 9.0, 5.0], [1.0, 3.0, 1.0], 3.0, id="of the rounds' ratios the median"),
        pytest.param([4.0, 2.0], [2.0, 2.0], 1.5, id="between the middle two of an even number"),
    ],
)
def test_ratio(ours: list[float], theirs: list[float], ratio: float) -> None:
    assert results_of(ours=ours, peer=theirs).ratio("ours", "peer", "stat") == ratio


def test_spread_is_the_smallest_and_the_largest_ratio_of_a_round() -> None:
    results = results_of(ours=[1.0, 9.0, 5.0], peer=[1.0, 3.0, 1.0])
    assert results.spread("ours", "peer", "stat") == (1.0, 5.0)


def test_a_filesystem_without_all_rounds_is_refused_until_it_is_left_out() -> None:
    results = results_of(ours=[1.0], peer=[2.0], failing=[3.0])
    results.add_round({"ours": {"stat": 1.0}, "peer": {"stat": 4.0}})
    with pytest.raises(ValueError, match="shorter"):
        results.ratio("ours", "failing", "stat")
    assert list(results.without("failing").samples) == ["ours", "peer"]
    assert results.without("failing").ratio("ours", "peer", "stat") == 0.375


def test_tables_have_a_row_per_operation_and_a_column_per_filesystem() -> None:
    results = results_of(ours=[6e-6], peer=[2e-6])
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(results.ratio_table("ours", ["peer"], "ratios"))
    console.print(results.time_table(["ours", "peer"], "times"))
    text = console.export_text()
    assert "/ peer" in text
    assert "3.00" in text
    assert "6.0" in text
    assert "2.0" in text


def test_json_compares_each_subject_with_peers_only() -> None:
    results = results_of(ours=[6.0], watched=[8.0], peer=[2.0])
    report = json.loads(json.dumps(results.as_json(["ours", "watched"])))
    assert report["ratios"] == {
        "ours": {"peer": {"stat": {"median": 3.0, "smallest": 3.0, "largest": 3.0}}},
        "watched": {"peer": {"stat": {"median": 4.0, "smallest": 4.0, "largest": 4.0}}},
    }
    assert report["medians"] == {
        "ours": {"stat": 6.0},
        "watched": {"stat": 8.0},
        "peer": {"stat": 2.0},
    }
    assert report["samples"]["peer"] == [{"stat": 2.0}]


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        pytest.param(0.984, "0.98", id="two digits after the point"),
        pytest.param(71.84, "72", id="none above ten"),
    ],
)
def test_ratio_text(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


def test_what_is_left_out_costs_so_many_times_the_whole() -> None:
    results = results_of(
        **{"whole": [2.0, 4.0], "whole, without it": [3.0, 8.0], "other": [2.0, 4.0]}
    )
    assert results.without_table("whole") == [
        ["without", "stat"],
        ["it", "1.75"],
        ["other", "1.00"],
    ]
