# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: what was measured beside what was promised, as a table and as Markdown.

Every part of the benchmark returns a list of these.  A missed one is said to
be missed and is no failure.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from tests.bench.results import Results, ratio_text

HEADINGS = ("what", "measured as", "target", "measured", "")


@dataclass(frozen=True)
class Target:
    """One promise.  bound and measured are in unit; at_least turns the comparison.

    measured is nan where it could not be measured; unit is "" for a ratio.
    Without a bound nothing was promised, and the figure is for information.
    """

    what: str
    measured_as: str
    bound: float | None
    measured: float
    unit: str = ""
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if math.isnan(self.measured):
            return "not measured"
        if self.bound is None:
            return ""
        good = self.measured >= self.bound if self.at_least else self.measured <= self.bound
        return "met" if good else "missed"

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table."""
        least = "at least" if self.at_least else "at most"
        unit = f" {self.unit}" if self.unit else ""
        measured = ratio_text(self.measured) if not unit else number_text(self.measured)
        bound = "" if self.bound is None else f"{least} {self.bound:,g}{unit}"
        return self.what, self.measured_as, bound, f"{measured}{unit}", self.verdict


def number_text(number: float) -> str:
    """Return a number of any size with three or more digits."""
    if math.isnan(number):
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


@dataclass(frozen=True)
class Goal:
    """A target for several operations and pairs: subject's time over peer's, at most."""

    operations: Sequence[str]
    subjects: Sequence[str]
    peers: Sequence[str]
    at_most: float

    def targets(self, part: str, results: Results) -> list[Target]:
        """Return the targets of what took part."""
        return [
            Target(
                f"{part}: {operation}",
                f"{subject} / {peer}",
                self.at_most,
                results.ratio(subject, peer, operation),
            )
            for operation in self.operations
            for subject in self.subjects
            for peer in self.peers
            if subject in results.samples and peer in results.samples
        ]


def table(targets: Sequence[Target]) -> Table:
    """Return all targets, the missed ones in red."""
    met = sum(target.verdict == "met" for target in targets)
    promised = sum(target.bound is not None for target in targets)
    shown = Table(title=f"targets: {met} of {promised} met")
    for heading in HEADINGS:
        shown.add_column(heading, justify="right" if heading == "measured" else "left")
    for target in targets:
        style = {"missed": "bold red", "not measured": "yellow"}.get(target.verdict)
        shown.add_row(*map(escape, target.row()), style=style)
    return shown


def markdown(targets: Iterable[Target]) -> str:
    """Return the same table in Markdown."""
    numbers = {HEADINGS.index("measured")}
    return as_markdown([HEADINGS, *(target.row() for target in targets)], numbers)


def as_markdown(rows: Sequence[Sequence[str]], numbers: Container[int]) -> str:
    """Return a table in Markdown; the first row are its headings, numbers the columns of those."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    marks = ["---:" if column in numbers else "---" for column in range(len(rows[0]))]
    lines.insert(1, f"|{'|'.join(marks)}|")
    return "\n".join(lines) + "\n"
