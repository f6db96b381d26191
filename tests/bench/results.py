# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic and the tables of a run.  Knows no filesystem and no clock.

A round's ratio compares two filesystems within that round, minutes apart at
most from the next; the median over the rounds is what is shown, so neither a
drifting machine nor a single disturbed round decides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rich.table import Table

T = TypeVar("T")
Seconds = dict[str, float]  # per operation


def in_turn(subjects: Sequence[T], number: int) -> Sequence[T]:
    """Return the order of a round: each round begins with another one."""
    first = number % len(subjects) if subjects else 0
    return [*subjects[first:], *subjects[:first]]


@dataclass
class Results:
    """samples[filesystem][round][operation] is the seconds that one operation took.

    Every filesystem has the same rounds, in the same order.  An operation that
    failed in a round has no seconds there, and then no median and no ratio: nan.
    """

    operations: Sequence[str]
    samples: dict[str, list[Seconds]] = field(default_factory=dict)

    def add_round(self, samples: dict[str, Seconds]) -> None:
        """Add one round: each filesystem's sample."""
        for filesystem, seconds in samples.items():
            self.samples.setdefault(filesystem, []).append(seconds)

    def median(self, filesystem: str, operation: str) -> float:
        """Return the median seconds per operation, over the rounds."""
        return median([sample.get(operation, math.nan) for sample in self.samples[filesystem]])

    def ratio(self, subject: str, peer: str, operation: str) -> float:
        """Return how many times the peer's time the subject takes: the rounds' median."""
        return median(self._ratios(subject, peer, operation))

    def spread(self, subject: str, peer: str, operation: str) -> tuple[float, float]:
        """Return the smallest and the largest ratio of any round."""
        ratios = self._ratios(subject, peer, operation)
        return min(ratios), max(ratios)

    def _ratios(self, subject: str, peer: str, operation: str) -> list[float]:
        pairs = zip(self.samples[subject], self.samples[peer], strict=True)
        return [
            ours.get(operation, math.nan) / theirs.get(operation, math.nan)
            for ours, theirs in pairs
        ]

    def without(self, filesystem: str) -> Results:
        """Return the same results without one filesystem."""
        kept = {name: rounds for name, rounds in self.samples.items() if name != filesystem}
        return Results(self.operations, kept)

    def ratio_table(self, subject: str, peers: Sequence[str], title: str) -> Table:
        """Rows: operations.  Columns: the subject's time over each peer's."""
        table = Table(title=title)
        table.add_column("operation", no_wrap=True)
        for peer in peers:
            table.add_column(f"/ {peer}", justify="right")
        for operation in self.operations:
            ratios = [self.ratio(subject, peer, operation) for peer in peers]
            table.add_row(operation, *map(ratio_text, ratios))
        return table

    def without_table(self, whole: str) -> list[list[str]]:
        """Return a row for each that is without something, behind one of headings.

        The cells are how many times the time of the whole it takes.
        """
        others = [name for name in self.samples if name != whole]
        return [
            ["without", *self.operations],
            *(
                [
                    other.removeprefix(f"{whole}, without "),
                    *(ratio_text(self.ratio(other, whole, each)) for each in self.operations),
                ]
                for other in others
            ),
        ]

    def time_table(self, filesystems: Sequence[str], title: str) -> Table:
        """Rows: operations.  Columns: each filesystem's median in microseconds."""
        table = Table(title=title)
        table.add_column("operation", no_wrap=True)
        for filesystem in filesystems:
            table.add_column(filesystem, justify="right")
        for operation in self.operations:
            medians = [self.median(filesystem, operation) for filesystem in filesystems]
            table.add_row(operation, *(time_text(seconds) for seconds in medians))
        return table

    def as_json(self, subjects: Sequence[str]) -> dict[str, object]:
        """Return everything, for a later run to compare with; times are seconds."""
        return {
            "medians": {
                name: {operation: self.median(name, operation) for operation in self.operations}
                for name in self.samples
            },
            "ratios": {
                subject: {
                    peer: {
                        operation: {
                            "median": self.ratio(subject, peer, operation),
                            "smallest": self.spread(subject, peer, operation)[0],
                            "largest": self.spread(subject, peer, operation)[1],
                        }
                        for operation in self.operations
                    }
                    for peer in self.samples
                    if peer not in subjects
                }
                for subject in subjects
            },
            "samples": self.samples,
        }


def median(values: Sequence[float]) -> float:
    """Return the median; nan where one value is."""
    return math.nan if any(map(math.isnan, values)) else statistics.median(values)


def ratio_text(ratio: float) -> str:
    """Return a ratio with as many digits as mean something."""
    if math.isnan(ratio):
        return "-"
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def time_text(seconds: float) -> str:
    """Return microseconds, for a table of them."""
    return "-" if math.isnan(seconds) else f"{seconds * 1e6:.1f}"
