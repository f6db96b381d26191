# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programs natively and through the mount, for as long as is wanted.

    python -m tests.differential.soak --operations 200000 --seed 1

Exits with 1 when a program differs, and prints the smallest such program as
code: what Lockstep.run() takes, and what a scenario is written from.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import fusenotify
from fusenotify.client import ConnectionLost
from tests.differential.conftest import World
from tests.differential.programs.generated import first_difference
from tests.differential.programs.lockstep import Difference, Lockstep


def main() -> int:
    """Run the soak and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential.soak", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--operations", type=int, default=200_000, help="how many at least")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.operations} operations", flush=True)
    with tempfile.TemporaryDirectory(prefix="fusenotify-soak-") as directory:
        return _soak(Path(directory), given.seed, given.operations)


def _soak(top: Path, seed: int, operations: int) -> int:
    top.chmod(0o755)  # for the other user
    for name in ("native", "source", "mnt"):
        (top / name).mkdir()
    began = time.monotonic()
    with (
        fusenotify.mounted(top / "source", top / "mnt", options=["allow_other"]) as mount,
        mount.client() as client,
    ):
        lockstep = Lockstep(World(top / "native", None), World(top / "mnt", client))
        try:
            difference = first_difference(lockstep, seed, operations)
            print(
                f"{lockstep.steps} operations in {lockstep.programs} programs, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
            if difference is None:
                print("no difference")
                return 0
            print(_report(lockstep, difference))
            return 1
        finally:
            lockstep.close()


def _report(lockstep: Lockstep, difference: Difference) -> str:
    try:
        smallest = lockstep.smallest(difference)
    except ConnectionLost as lost:
        return f"a difference, not made smaller ({lost.strerror}):{difference}"
    return f"a difference after {len(smallest.program.steps)} steps:{smallest}"


if __name__ == "__main__":
    sys.exit(main())
