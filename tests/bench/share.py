# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.bench.share: where the daemon's processor time of a request goes.

The calls of tests.bench.sample are made on a mount of passthrough_ll's and on
one of ours, all on one processor, so that who waits does not spin.  What our
handlers take, SOURCE's system calls included, is timed in the daemon; as a
program with arguments this module is ``fusenotify`` with those clocks in it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.compared import Settings
from tests.bench.filesystems import PROJECT, Filesystem
from tests.bench.peers import Place, passthrough_ll

ROUNDS = 5
FILES = 1000
REPORT = "FUSENOTIFY_SHARE"  # the variable that names the file for what was timed


def main() -> int:
    if len(sys.argv) > 1:
        return serve(sys.argv[1:])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    settings = Settings()
    with tempfile.TemporaryDirectory(dir=settings.working_directory()) as work:
        tools = Path(work, "tools")
        tools.mkdir()
        report = Path(work, "report")
        os.environ[REPORT] = str(report)
        theirs = Place(Path(work, "theirs"), tools)
        ours = Place(Path(work, "ours"), tools)
        options = ["mount", "-f", "-o", "allow_other", "--socket", str(ours.socket)]
        command = [sys.executable, "-m", "tests.bench.share", *options]
        command += [str(ours.source), str(ours.mountpoint)]
        taken = []
        for place, mount in ((theirs, passthrough_ll(theirs)), (ours, command)):
            with contextlib.closing(Filesystem("", place, mount)) as filesystem:
                taken.append(sampled(filesystem))
        handlers: dict[str, tuple[int, float]] = json.loads(report.read_text())
    requests = sum(count for count, _ in handlers.values())
    in_handlers = sum(seconds for _, seconds in handlers.values())
    show(requests, taken[0], taken[1], in_handlers, handlers)
    return 0


def sampled(filesystem: Filesystem) -> float:
    """Return the seconds of processor time that the daemon took."""
    before = processor_seconds(filesystem.daemon.pid)
    command = ["tests.bench.sample", "requests", str(filesystem.directory)]
    command += [str(filesystem.below), str(FILES), "1"]
    for _ in range(ROUNDS):
        subprocess.run(
            [sys.executable, "-m", *command], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL
        )
    return processor_seconds(filesystem.daemon.pid) - before


def processor_seconds(pid: int) -> float:
    """Return what a process took so far, threads that ended included, to the clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(
    requests: int,
    theirs: float,
    ours: float,
    in_handlers: float,
    handlers: dict[str, tuple[int, float]],
) -> None:
    console = Console()
    table = Table(title=f"processor time of the daemon for each of our {requests:,} requests")
    table.add_column("whose")
    table.add_column("µs", justify="right")
    for whose, seconds in (
        ("passthrough_ll, all", theirs),
        ("fusenotify, all", ours),
        ("in handlers, SOURCE's system calls included", in_handlers),
        ("pyfuse3, libfuse, trio, polling, and the kernel's FUSE", ours - in_handlers),
    ):
        table.add_row(whose, f"{seconds / requests * 1e6:.1f}")
    console.print(table)
    table = Table(title="each handler")
    for heading in ("request", "count", "µs"):
        table.add_column(heading, justify="left" if heading == "request" else "right")
    for name, (count, seconds) in sorted(handlers.items()):
        table.add_row(name, f"{count:,}", f"{seconds / count * 1e6:.1f}")
    console.print(table)


# The daemon.


def serve(arguments: list[str]) -> int:
    """Be fusenotify, and write at the end what each handler took."""
    from fusenotify.cli import main as fusenotify
    from fusenotify.fs.operations import Operations

    taken: dict[str, list[float]] = {}
    for name in dir(Operations):
        method = getattr(Operations, name)
        if hasattr(method, "__wrapped__") or name == "forget":  # which needs no answer
            setattr(Operations, name, timed(method, taken.setdefault(name, [])))
    try:
        return fusenotify(arguments)
    finally:
        counts = {name: (len(each), sum(each)) for name, each in taken.items() if each}
        Path(os.environ[REPORT]).write_text(json.dumps(counts))


def timed(method: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def clocked(*args: Any) -> Any:
        begin = thread_time()
        try:
            return await method(*args)
        finally:
            taken.append(thread_time() - begin)

    return clocked


if __name__ == "__main__":
    sys.exit(main())
