# SPDX-License-Identifier: GPL-2.0-or-later
"""The same calls give the same records, natively and through the mount.

The live kernel is the oracle: nothing is expected here but what it answers.
"""

from __future__ import annotations

import pytest

from tests.differential import answers, devices, hard_links, operations, side_effects
from tests.differential.conftest import World, both
from tests.differential.scenario import SCENARIOS, Scenario

# Importing these registers their scenarios.
__all__ = ["answers", "devices", "hard_links", "operations", "side_effects"]

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("run", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_agrees_with_linux(run: Scenario, linux: World, ours: World) -> None:
    on_linux, through_the_mount = both(run, linux, ours)
    assert through_the_mount == on_linux
