# SPDX-License-Identifier: GPL-2.0-or-later
"""List the examples of README.md and docs/: how many are run, and which are not and why."""

from __future__ import annotations

from collections import Counter

from tests.manual.pages import of_kind

RUN = ("session", "program", "test", "interactive", "file", "run by")


def summary() -> str:
    """Return how many blocks there are of each kind."""
    counts = Counter(block.kind for block in of_kind(*RUN, "commands", "not run"))
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in (*RUN, "commands"))
    return f"examples: {kinds}; {counts['not run']} not run"


if __name__ == "__main__":
    print(summary())
    for block in of_kind("not run"):
        print(f"{block.place}: {block.notes['not run']}")
