# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.bench [PART ...]: measure fusenotify beside its peers and its targets.

See docs/reference/performance.md.  Nothing is asserted about time: the exit status is 1
only where something of ours could not be measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench import compared, engine, memory, plot, server, supervised, targets
from tests.bench.compared import PARTS, Outcome, Settings
from tests.bench.filesystems import NAMES, SUBJECTS
from tests.bench.targets import Target

# Parts that compare no filesystems.
FIGURES = {
    "engine": engine.measure,
    "server": server.measure,
    "memory": memory.measure,
    "run": supervised.measure,
}
QUICK = {"rounds": 3, "files": 100, "blocks": 8}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure fusenotify beside its peers, alternating, and its targets.",
    )
    parser.add_argument(
        "parts",
        metavar="PART",
        nargs="*",
        choices=[*PARTS, *FIGURES, []],
        help=f"take only these parts: {', '.join([*PARTS, *FIGURES])}",
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    for what, meaning in (
        ("rounds", "samples of each"),
        ("files", "operations per sample"),
        ("blocks", "MiB per sample of 1 MiB blocks"),
    ):
        usual = Settings.__dataclass_fields__[what].default
        parser.add_argument(
            f"--{what}",
            type=int,
            help=f"{meaning} (default: {usual}; with --quick {QUICK[what]})",
        )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the comparisons there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the targets there")
    parser.add_argument(
        "--directory",
        type=Path,
        help=f"work below it (default: {compared.IN_MEMORY}, or that of temporary files)",
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        choices=NAMES,
        help=f"take only these filesystems (repeatable): {'; '.join(NAMES)}",
    )
    for option, whose in (
        ("--pyfuse3-example", "passthroughfs.py, instead of downloading pyfuse3's sdist"),
        ("--mfusepy-loopback", "loopback.py, instead of cloning mfusepy's repository"),
    ):
        parser.add_argument(option, type=Path, metavar="FILE", help=f"this {whose}")
    parser.add_argument(
        "--before",
        type=Path,
        metavar="CHECKOUT",
        help="have fusenotify as it is there take part, too: what a change costs",
    )
    options = parser.parse_args()
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install '.[bench]'")
    for what, quick in QUICK.items():
        given = getattr(options, what)
        if given is None:
            usual = Settings.__dataclass_fields__[what].default
            setattr(options, what, quick if options.quick else usual)
        elif given < 1:
            parser.error(f"--{what} must be at least 1")
    return options


def settings_of(options: argparse.Namespace) -> Settings:
    names = Settings.__dataclass_fields__
    return Settings(**{name: value for name, value in vars(options).items() if name in names})


def machine(work: Path | None) -> dict[str, object]:
    """Return what the figures depend on."""
    disk = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(work or "/tmp")],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "disk": disk.stdout.strip() or "unknown",
    }


def show(name: str, outcome: Outcome, console: Console) -> None:
    """Print a part's times and ratios, and the participants that are missing."""
    results = outcome.results
    taking_part = [name for name in outcome.part.names if name in results.samples]
    subjects = [name for name in taking_part if name in SUBJECTS and name != outcome.part.peer]
    peers = [name for name in taking_part if name not in subjects]
    console.print(results.time_table(taking_part, f"{name}: microseconds each (medians)"))
    if outcome.part.whole in taking_part:
        headings, *rows = results.without_table(outcome.part.whole)
        table = Table(*headings, title=f"{name}: how many times the time of {outcome.part.whole}")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for subject in subjects:
        if peers and not outcome.part.whole:
            title = f"{name}: the time of {subject} over its peers'"
            console.print(results.ratio_table(subject, peers, title))
    for missing, why in outcome.left_out.items():
        console.print(f"[bold red]not measured: {missing}[/]: {escape(why)}")
    for failed, why in outcome.failures.items():
        console.print(f"[bold red]failed: {escape(failed)}[/]: {escape(why)}")
    for watched, count in outcome.received.items():
        console.print(f"{watched}: the client received {count} bytes of records.")


def as_json(outcome: Outcome) -> dict[str, object]:
    results = outcome.results
    return {
        "left_out": outcome.left_out,
        "failures": outcome.failures,
        "received_bytes": outcome.received,
        **results.as_json([name for name in SUBJECTS if name in results.samples]),
    }


def stop(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, stop)
    # passthrough_ll holds a descriptor per file; the usual 1024 are soon gone.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    console = Console(width=None if sys.stdout.isatty() else 120)
    settings = settings_of(options)
    about = machine(settings.working_directory())
    console.print("  ".join(f"{name}: {value}" for name, value in about.items()))
    outcomes: dict[str, Outcome] = {}
    reached: list[Target] = []
    for name in options.parts or [*PARTS, *FIGURES]:
        if name in FIGURES:
            reached += FIGURES[name](settings, console)
            continue
        outcomes[name] = compared.measure(name, settings, console)
        show(name, outcomes[name], console)
        reached += outcomes[name].targets(name)
    console.print(targets.table(reached))
    if options.markdown:
        text = targets.markdown(reached)
        for name, outcome in outcomes.items():
            if outcome.part.whole in outcome.results.samples:
                rows = outcome.results.without_table(outcome.part.whole)
                numbers = range(1, len(rows[0]))
                text += f"\n{name}\n\n{targets.as_markdown(rows, numbers)}"
        options.markdown.write_text(text)
    if options.plot and outcomes:
        plot.draw(options.plot, outcomes)
    if options.json:
        report = {
            "machine": about,
            "settings": {"rounds": options.rounds, "files": options.files, "MiB": options.blocks},
            "targets": [
                dict(zip(targets.HEADINGS, target.row(), strict=True)) for target in reached
            ],
            "parts": {name: as_json(outcome) for name, outcome in outcomes.items()},
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(outcome.ours_failed for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
