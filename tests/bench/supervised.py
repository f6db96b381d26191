# SPDX-License-Identifier: GPL-2.0-or-later
"""The part "run": what a program's inotify calls take under ``fusenotify run``, beside native.

tests.bench.__main__ calls measure().  The program is tests/run_under/scenarios.c, which takes the
time of each call itself; its medians are taken in turns, natively and under run.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console

from tests.bench.compared import Settings
from tests.bench.memory import mounted
from tests.bench.targets import Target
from tests.run_under.programs import compiled, under


def measure(settings: Settings, console: Console) -> list[Target]:
    """Return the figures; nothing is promised of them."""
    native: dict[str, list[int]] = defaultdict(list)
    ours: dict[str, list[int]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as top, mounted() as mount, console.status("run"):
        program = compiled(Path(top))
        (Path(top) / "native").mkdir()
        for _ in range(settings.rounds):
            alone = subprocess.run(
                [str(program), str(Path(top) / "native"), "timings"],
                capture_output=True,
                text=True,
                check=True,
            )
            _keep(alone.stdout, native)
            _keep(under("--", program, mount.mountpoint, "timings").stdout, ours)
    return [
        Target(
            f"run: {what}",
            f"its time; natively {_median(taken):.2f} µs",
            None,
            _median(ours[what]),
            "µs",
        )
        for what, taken in native.items()
    ]


def _keep(output: str, found: dict[str, list[int]]) -> None:
    for line in output.splitlines():
        what, _, nanoseconds = line.rpartition(": ")
        found[what].append(int(nanoseconds))


def _median(nanoseconds: list[int]) -> float:
    return statistics.median(nanoseconds) / 1000
