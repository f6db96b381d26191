# SPDX-License-Identifier: GPL-2.0-or-later
"""What the attackers of a round do: drawn by seed and round, and as text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

# Their import registers them.
from tests.hostile.calls import connections, names, namespaces, opens, processes, rights
from tests.hostile.context import CALLS
from tests.hostile.world import Settings

_GROUPS = (names, opens, rights, processes, namespaces, connections)
# A world has so many rounds.
ROUNDS_OF_A_WORLD = 10


class Step(NamedTuple):
    """A call and the seed from which it draws what it does."""

    call: str
    seed: int


Program = list[Step]


def settings_of(seed: int, number: int) -> Settings:
    """Return how the world of a round is mounted; the first one of a run by default."""
    epoch = number // ROUNDS_OF_A_WORLD
    return Settings.drawn(random.Random(f"{seed} world {epoch}")) if epoch else Settings()


def programs_of(seed: int, number: int, only: Sequence[str] = ()) -> list[Program]:
    """Return what each attacker of a round does; only calls named, where any are."""
    chosen = random.Random(f"{seed} round {number}")
    known = sorted(CALLS)
    drawn = chosen.sample(known, k=min(len(known), 12))  # so that they meet often
    names = list(only) or drawn
    return [
        [
            Step(chosen.choice(names), chosen.getrandbits(32))
            for _ in range(chosen.choice([3, 10, 40]))
        ]
        for _ in range(chosen.choice([1, 2, 4]))
    ]


def as_text(programs: Sequence[Program]) -> str:
    """Return programs as lines."""
    return "\n".join(
        f"  attacker {number}: " + ", ".join(f"{step.call}({step.seed})" for step in program)
        for number, program in enumerate(programs)
    )
