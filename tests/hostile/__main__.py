# SPDX-License-Identifier: GPL-2.0-or-later
"""Let an ordinary user do harm at random: is anybody else the worse for it?

    python -m tests.hostile --seed 7 --minutes 60
    python -m tests.hostile --seed 7 --round 31         # that round once more
    python -m tests.hostile --seed 7 --rounds 5 --only leases --only deep_tree

As root.  An attacker of a user number that nobody else has gets a shell on a
mount and may write to SOURCE (tests.hostile.world); each round draws what is
done from tests.hostile.calls.  After it another user's operations must be
answered within a second each, the daemon lives and holds what it held, and no
file of root's or of the other user's has changed.  Ten rounds have one mount.

On a failure the seed, the round and its calls are printed and kept in a file,
and the next round has a new mount.  Exit status 1 where there was one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hostile import rounds, users
from tests.hostile.context import CALLS
from tests.hostile.program import ROUNDS_OF_A_WORLD, Program, as_text, programs_of, settings_of
from tests.hostile.world import Settings, World, world


class Worlds:
    """The world that a round is in; one that was damaged is followed by a new one."""

    def __init__(self, seed: int, settings: Settings | None, attacker: int, victim: int) -> None:
        self._seed = seed
        self._settings = settings
        self._users = attacker, victim
        self._closing = contextlib.ExitStack()
        self._current: tuple[World, rounds.Held] | None = None

    def of(self, number: int) -> tuple[World, rounds.Held]:
        """Return the world of a round, and what its daemon held at the beginning."""
        if self._current is None or number % ROUNDS_OF_A_WORLD == 0:
            self.close()
            made = self._closing.enter_context(
                world(self._settings or settings_of(self._seed, number), *self._users)
            )
            self._current = made, rounds.Held.by(made)
        return self._current

    def close(self) -> None:
        self._current = None
        self._closing.close()


def numbers_of(options: argparse.Namespace) -> Iterator[int]:
    """Yield the rounds to be run."""
    if options.round is not None:
        yield options.round
        return
    end = time.monotonic() + 60 * options.minutes
    number = 0
    while time.monotonic() < end and (options.rounds is None or number < options.rounds):
        yield number
        number += 1


def run(options: argparse.Namespace) -> int:
    failed: list[int] = []
    calls = 0
    most = 0
    users.inherit_orphans()
    with users.two_users() as (attacker, victim):
        worlds = Worlds(options.seed, options.mounted, attacker, victim)
        with contextlib.closing(worlds):
            for number in numbers_of(options):
                place, before = worlds.of(number)
                programs = programs_of(options.seed, number, options.only)
                if options.verbose:
                    print(f"round {number}\n{as_text(programs)}", flush=True)
                began = time.monotonic()
                report = rounds.run(place, programs, before)
                calls += report.calls
                most = max(most, report.held.memory if report.held else 0)
                print(
                    f"round {number}: {len(programs)} attackers, {report.calls} calls, "
                    f"{time.monotonic() - began:.0f} s, {report.held or 'FAILED'}",
                    flush=True,
                )
                if options.verbose:
                    print("\n".join(f"  refused: {each}" for each in report.refused))
                if report.problems or report.broken:
                    failed.append(number)
                    _explain(options.seed, number, place, programs, report)
                    worlds.close()
    print(
        f"seed {options.seed}: {calls} calls, at most {most} KiB, failed rounds: {failed or 'none'}"
    )
    return int(bool(failed))


def _explain(
    seed: int, number: int, place: World, programs: list[Program], report: rounds.Report
) -> None:
    """Print what a round found, and keep what it did."""
    name = Path(tempfile.gettempdir(), f"fusenotify-hostile-seed-{seed}-round-{number}.json")
    kept = {
        "seed": seed, "round": number, "settings": str(place.settings),
        "programs": programs, "problems": report.problems, "broken": report.broken,
    }  # fmt: skip
    name.write_text(json.dumps(kept, indent=1))
    print(f"seed {seed}, round {number}, mounted with {place.settings}:")
    for problem in report.problems + report.broken:
        print(f"  FAILED: {problem}")
    print(as_text(programs))
    print(f"  kept in {name}", flush=True)


def main() -> int:
    """Run as the arguments say, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, help="run no more than so many")
    parser.add_argument("--round", type=int, help="run this one only")
    parser.add_argument(
        "--only", action="append", default=[], choices=sorted(CALLS), help="draw this call only"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print each round's calls, and which were refused"
    )
    parser.add_argument(
        "--mounted",
        type=Settings.from_text,
        metavar="SETTING[,...]",
        help="mount all worlds so, as exclusive,acl,shown_owner=attacker",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaving nothing behind
    if os.geteuid():
        parser.error("only root can run programs as other users")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
