# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of what the comparisons gave: every filesystem's time over ours.

tests.bench.__main__ calls draw() where a picture is asked for; only then is
matplotlib needed (the extra ``bench``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tests.bench.compared import Outcome
from tests.bench.filesystems import SUBJECTS

ROW, EDGES, WIDTH = 0.28, 1.1, 8.0  # inches
MARKS = "os^Dv*PX<>"


def draw(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Write a panel for each part: one row an operation, one mark a filesystem.

    Ours is the vertical line at 1; who is on its right takes longer.  Ours is
    the subject of the part that is named first.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "fusenotify"  # the same figures give the same file
    from matplotlib import pyplot

    rows = [len(outcome.part.operations) for outcome in outcomes.values()]
    figure, grid = pyplot.subplots(
        len(rows),
        squeeze=False,
        height_ratios=rows,
        figsize=(WIDTH, sum(ROW * count + EDGES for count in rows)),
        layout="constrained",
    )
    for axes, (name, outcome) in zip(grid[:, 0], outcomes.items(), strict=True):
        operations, results = outcome.part.operations, outcome.results
        taking_part = [name for name in outcome.part.names if name in results.samples]
        ours = next((name for name in taking_part if name in SUBJECTS), None)
        if ours is None:
            continue
        others = [name for name in taking_part if name != ours]
        for mark, other in zip(MARKS, others, strict=False):
            ratios = [results.ratio(other, ours, operation) for operation in operations]
            places = [at for at, ratio in enumerate(ratios) if not math.isnan(ratio)]
            axes.plot([ratios[at] for at in places], places, mark, label=other, markersize=5)
        axes.axvline(1, color="black", linewidth=1)
        axes.set_xscale("log")
        axes.set_yticks(range(len(operations)), operations)
        axes.invert_yaxis()
        axes.grid(alpha=0.3)
        axes.set_title(f"{name}: time over that of {ours} (on the right: slower)", fontsize=10)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
