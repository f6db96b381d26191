# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.plugin.cost: what a mount takes that remembers what was done in it.

Two mounts, one that remembers and one that does not, in turns; prints the medians
of the time for a file that is made, written, read and removed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fusenotify
from fusenotify.testing.mounts import REMEMBERED

ROUNDS = 41
FILES = 100


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        places = {}
        for name in ("source", "without", "with"):
            places[name] = Path(directory) / name
            places[name].mkdir()
        source = places.pop("source")
        remembered = {"without": 0, "with": REMEMBERED}
        with (
            fusenotify.mounted(source, places["without"]),
            fusenotify.mounted(source, places["with"], activity=REMEMBERED) as mount,
        ):
            seconds: dict[str, list[float]] = {"without": [], "with": []}
            ratios = []
            for number in range(ROUNDS):
                for name in list(remembered)[:: -1 if number % 2 else 1]:
                    seconds[name].append(timed(partial(files, places[name])) / FILES)
                ratios.append(seconds["with"][-1] / seconds["without"][-1])
            for name, taken in seconds.items():
                print(f"a file, {name}: {statistics.median(taken) * 1e6:.0f} us")
            print(f"the ratio, median of {ROUNDS} rounds: {statistics.median(ratios):.3f}")
            with mount.client() as client:
                asked = timed(client.activity)
            print(f"asking for {REMEMBERED} operations: {asked * 1e3:.1f} ms")


def files(top: Path) -> None:
    for number in range(FILES):
        path = top / str(number)
        path.write_bytes(b"x")
        path.read_bytes()
        path.unlink()


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
