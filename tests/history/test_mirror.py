# SPDX-License-Identifier: GPL-2.0-or-later
"""A model kept by the journal is the tree, whatever is killed; tests.history.mirror runs longer."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from tests.history.mirror import Mirror

pytestmark = pytest.mark.mount


def test_the_model_is_the_tree_although_consumers_and_daemons_are_killed(tmp_path: Path) -> None:
    with contextlib.closing(Mirror(tmp_path, random.Random(1))) as mirror:
        rounds = [mirror.round(seed, kill_daemon=seed == 3) for seed in range(5)]
    assert sum(each.stopped for each in rounds) > 1
    assert [each.gap for each in rounds] == [False, False, False, True, False]
