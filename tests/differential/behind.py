# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenarios with their calls made in SOURCE, behind a mount that hears of it.

    python -m tests.differential.behind [--behind all] [--only WORD]

Each operation is made natively under the kernel's inotify, then in the source of a mount whose
device watches; the records of both are compared.  They are the same, or the same in another
order, or they differ; those that differ and are not in EXPECTED end it with status 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import fusenotify
from tests.differential import operations
from tests.differential.conftest import OurDevice, World, both
from tests.differential.scenario import SCENARIOS, AnyDevice

__all__ = ["operations"]


class Behind(World):
    """The source of a mount, whose devices are the mount's."""

    def device(self, queue: int | None = None) -> AnyDevice:
        return OurDevice(self.connection, self.top, queue)


def compared(behind: str, only: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return the scenarios whose records differ, with these; print how many do not."""
    differ: dict[str, tuple[list[str], list[str]]] = {}
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="behind-") as directory:
        top = Path(directory)
        top.chmod(0o755)
        for name in ("native", "source", "mnt"):
            (top / name).mkdir()
        with (
            fusenotify.mounted(
                top / "source", top / "mnt", behind=behind, options=["allow_other"]
            ) as mount,
            mount.client() as client,
        ):
            worlds = World(top / "native", None), Behind(top / "source", client)
            for name, run in SCENARIOS.items():
                if only not in name:
                    continue
                on_linux, heard = both(run, *worlds)
                if on_linux == heard:
                    counts["the same"] += 1
                elif sorted(on_linux) == sorted(heard):
                    counts["the same in another order"] += 1
                else:
                    counts["different"] += 1
                    differ[name] = on_linux, heard
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return differ


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--behind", default="all", choices=("watched", "all"))
    parser.add_argument(
        "--only", default="", metavar="WORD", help="scenarios with this in the name"
    )
    arguments = parser.parse_args()
    differ = compared(arguments.behind, arguments.only)
    for name, (on_linux, heard) in differ.items():
        print(f"\n{name}\n  Linux  {on_linux}\n  behind {heard}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
