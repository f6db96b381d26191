# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fence costs: ``python -m tests.bench.fence``.

Prints medians, and ratios to the plainest request of the same client and to a
request through the mount, each taken in turn in one run.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

import fusenotify

ROUNDS = 2000


def main() -> None:
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (top / "source").mkdir()
        (top / "mnt").mkdir()
        mount = stack.enter_context(fusenotify.mounted(top / "source", top / "mnt"))
        client = stack.enter_context(mount.client())
        device = client.init(nonblock=True)
        path = top / "mnt" / "open"

        def sync_while_open() -> float:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            try:
                return timed(client.sync)
            finally:
                os.close(fd)

        cases: dict[str, Callable[[], float]] = {
            "a request of the client (FIONREAD)": lambda: timed(device.fionread),
            "a request through the mount (getxattr)": lambda: timed(
                lambda: os.getxattr(mount.mountpoint, "user.fusenotify.socket")
            ),
            "sync, no file open": lambda: timed(client.sync),
            "sync, a file open": sync_while_open,
        }
        samples: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, sample in cases.items():
                samples[name].append(sample())
    medians = {name: statistics.median(taken) for name, taken in samples.items()}
    plain, through, *_ = medians.values()
    table = Table("what", "median, µs", "/ a request of the client", "/ one through the mount")
    for name, median in medians.items():
        table.add_row(
            name, f"{median * 1e6:.0f}", f"{median / plain:.2f}", f"{median / through:.2f}"
        )
    Console().print(table)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
