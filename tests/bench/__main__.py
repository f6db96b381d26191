# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.bench: measure this filesystem beside its peers.  See docs/benchmarks.md.

Round by round, every filesystem is sampled once, each round beginning with
another one.  Nothing is asserted about time: the exit status is 1 only where
a sample of ours could not be taken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from tests.bench import filesystems
from tests.bench.filesystems import (
    NAMES,
    OURS,
    OURS_WATCHED,
    PROJECT,
    Filesystem,
    Place,
    Unavailable,
    Watched,
)
from tests.bench.results import Results, Seconds
from tests.bench.sample import LARGE, OPERATIONS

SUBJECTS = {
    OURS: "fusenotify's time over its peers', nobody watching",
    OURS_WATCHED: "fusenotify's time over its peers', one client draining a watch",
}
SAMPLE_PATIENCE = 300.0  # seconds
# What creating a name costs on a disk depends on where its directory happens to
# lie and what was deleted there before: more than one filesystem differs from another.
IN_MEMORY = Path("/dev/shm")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure fusenotify beside its peers, alternating, in one run.",
    )
    parser.add_argument("--rounds", type=int, default=7, help="samples of each (default: 7)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of small samples")
    parser.add_argument("--files", type=int, default=300, help="operations per sample")
    parser.add_argument("--blocks", type=int, default=32, help="MiB per sample of 1 MiB blocks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument(
        "--directory",
        type=Path,
        help=f"work below this directory (default: {IN_MEMORY}, or that of temporary files)",
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=NAMES,
        help=f"take only these filesystems (repeatable): {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--pyfuse3-example",
        type=Path,
        metavar="FILE",
        help="this passthroughfs.py, instead of downloading pyfuse3's sdist",
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.files, options.blocks = 3, 100, 8
    if min(options.rounds, options.files, options.blocks) < 1:
        parser.error("--rounds, --files and --blocks must be at least 1")
    return options


def working_directory(chosen: Path | None, blocks: int) -> Path | None:
    """Return where to work: in memory if nothing was chosen and the blocks fit twice."""
    if chosen or not os.access(IN_MEMORY, os.W_OK):
        return chosen
    return IN_MEMORY if shutil.disk_usage(IN_MEMORY).free > 2 * blocks * LARGE else None


def take_sample(filesystem: Filesystem, files: int, blocks: int) -> Seconds:
    """Return one sample, taken in a fresh process.  Raises Unavailable."""
    where = [str(filesystem.directory), str(filesystem.below), str(files), str(blocks)]
    try:
        result = subprocess.run(
            [sys.executable, "-m", "tests.bench.sample", *where],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=PROJECT,
            check=False,
            timeout=SAMPLE_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"a sample took longer than {SAMPLE_PATIENCE:.0f} s") from None
    if result.returncode:
        words = result.stderr.strip().splitlines()[-1:] or ["no message"]
        log = filesystem.last_words()
        raise Unavailable(f"a sample failed: {words[0]}" + (f" (daemon: {log})" if log else ""))
    seconds: Seconds = json.loads(result.stdout)
    return seconds


class Run:
    """The filesystems of one run, and why others take no part."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.taking_part: list[Filesystem] = []
        self.left_out: dict[str, str] = {}

    def leave_out(self, name: str, why: Unavailable) -> None:
        self.left_out[name] = str(why)
        self.console.print(f"[bold red]left out: {name}[/]: {escape(str(why))}")

    def mount(self, names: Sequence[str], root: Path, example: Path | None) -> None:
        tools = root / "tools"
        tools.mkdir()
        for number, name in enumerate(names):
            place = Place(root / str(number), tools, example)
            try:
                filesystem = filesystems.open_filesystem(name, place)
            except Unavailable as why:
                self.leave_out(name, why)
            else:
                self.taking_part.append(filesystem)

    def take_round(self, first: int, files: int, blocks: int) -> dict[str, Seconds]:
        """Sample each once, beginning with the first-th; who fails takes no further part."""
        samples = {}
        count = len(self.taking_part)
        order = [self.taking_part[(first + place) % count] for place in range(count)]
        for filesystem in order:
            try:
                samples[filesystem.name] = take_sample(filesystem, files, blocks)
            except Unavailable as why:
                self.leave_out(filesystem.name, why)
                self.taking_part.remove(filesystem)
                filesystem.close()
        return samples

    def close(self) -> None:
        for filesystem in self.taking_part:
            filesystem.close()


def measure(run: Run, options: argparse.Namespace) -> Results:
    """Return the results of all rounds, after one that is not counted."""
    run.take_round(0, min(options.files, 50), 1)
    results = Results(tuple(OPERATIONS))
    with run.console.status("measuring") as status:
        for number in range(options.rounds):
            status.update(f"round {number + 1} of {options.rounds}")
            results.add_round(run.take_round(number, options.files, options.blocks))
    for name in run.left_out:
        results = results.without(name)
    return results


def machine(work: Path) -> dict[str, object]:
    """Return what the figures depend on."""
    disk = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(work)],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "disk": disk.stdout.strip() or "unknown",
    }


def show(results: Results, run: Run) -> None:
    names = [name for name in NAMES if name in results.samples]
    peers = [name for name in names if name not in SUBJECTS]
    run.console.print(results.time_table(names, "microseconds per operation (medians)"))
    for subject, title in SUBJECTS.items():
        if subject in names and peers:
            run.console.print(results.ratio_table(subject, peers, title))
    for name, why in run.left_out.items():
        run.console.print(f"[bold red]not measured: {name}[/]: {escape(why)}")


def stop(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, stop)
    # passthrough_ll holds a descriptor per file; the usual 1024 are soon gone.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    console = Console(width=None if sys.stdout.isatty() else 120)
    run = Run(console)
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="fusenotify-bench-",
                dir=working_directory(options.directory, options.blocks),
            )
        )
        stack.callback(run.close)
        about = machine(Path(work))
        console.print("  ".join(f"{name}: {value}" for name, value in about.items()))
        run.mount(options.only or NAMES, Path(work), options.pyfuse3_example)
        results = measure(run, options)

    show(results, run)
    received = [one.received for one in run.taking_part if isinstance(one, Watched)]
    for count in received:
        console.print(f"The client that drained its watch received {count} bytes of records.")
    if options.json:
        report = {
            "machine": about,
            "settings": {"rounds": options.rounds, "files": options.files, "MiB": options.blocks},
            "left_out": run.left_out,
            "received_bytes": received,
            **results.as_json([name for name in SUBJECTS if name in results.samples]),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(name in SUBJECTS for name in run.left_out) or None in received else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
