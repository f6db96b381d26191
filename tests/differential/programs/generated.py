# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programs, one after the other, until enough operations were compared.

Hypothesis draws them, in rounds, because it remembers all that it drew; each
round has a seed of its own.  Shrinking is ours (lockstep): programs are data.
"""

from __future__ import annotations

import os

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.differential.programs.drawn import programs
from tests.differential.programs.lockstep import Difference, Lockstep
from tests.differential.programs.steps import Program

_PROGRAMS_IN_A_ROUND = 50


def first_difference(lockstep: Lockstep, seed: int, operations: int) -> Difference | None:
    """Run programs until lockstep has made so many operations or one differs.

    Raises OSError where the daemon ended.
    """
    found: Difference | OSError | None = None

    def run(program: Program) -> None:
        nonlocal found
        if found is None and lockstep.steps < operations:
            try:
                lockstep.run(program)
            except (Difference, OSError) as end:
                found = end

    given = hypothesis.given(programs(any_queues=os.geteuid() == 0))
    settings = hypothesis.settings(
        max_examples=_PROGRAMS_IN_A_ROUND,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    drawn = settings(given(run))
    number = 0
    while found is None and lockstep.steps < operations:
        hypothesis.seed(f"{seed}, round {number}")(drawn)()
        number += 1
    if isinstance(found, OSError):
        raise found
    return found
