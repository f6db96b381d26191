# SPDX-License-Identifier: GPL-2.0-or-later
"""Kill the daemon at random moments under writers: is anything lost that was acknowledged?

    python -m tests.fs.crash --rounds 200 --seed 1

Exits with 1 when a record is lost or torn, something hangs, or a recovery
leaves something behind; SOURCE then stays.  TMPDIR names the disk.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fs.crash.kinds import KINDS
from tests.fs.crash.rounds import Round, Rounds


def main() -> int:
    """Run the rounds and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fs.crash", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.rounds} rounds", flush=True)
    top = Path(tempfile.mkdtemp(prefix="fusenotify-crash-"))
    began = time.monotonic()
    rounds = Rounds(top, given.seed)
    done: list[Round] = []
    try:
        for number in range(given.rounds):
            done.append(rounds.run())
            for problem in done[-1].problems:
                print(f"round {number} ({done[-1].recovery}): {problem}", flush=True)
    finally:
        rounds.close()
    _report(done)
    print(f"{len(done)} rounds, {time.monotonic() - began:.0f} s")
    if any(each.problems for each in done):
        print(f"SOURCE stays in {rounds.source}")
        return 1
    shutil.rmtree(top)
    return 0


def _report(done: list[Round]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("records", "acknowledged", "lost", "torn", "whole beyond", "writers' ends")
    ends = sum((each.ends for each in done), Counter[str]())
    for kind in KINDS:
        found = [each.found[kind] for each in done]
        table.add_row(
            kind,
            f"{sum(each.acknowledged[kind] for each in done):,}",
            *(
                f"{sum(verdict[column]):,}"
                for verdict in [tuple(zip(*found, strict=True))]
                for column in range(3)
            ),
            _ends_of(kind, ends),
        )
    console.print(table)
    recoveries = Counter(each.recovery for each in done)
    console.print("recovered by", _listed(recoveries), highlight=False)
    console.print("clients' ends", _ends_of("client", ends), highlight=False)


def _ends_of(who: str, ends: Counter[str]) -> str:
    mine = {end.removeprefix(f"{who}: "): n for end, n in ends.items() if end.startswith(f"{who}:")}
    return _listed(Counter(mine))


def _listed(counted: Counter[str]) -> str:
    return "; ".join(f"{what} {number}" for what, number in counted.most_common())


if __name__ == "__main__":
    sys.exit(main())
