# SPDX-License-Identifier: GPL-2.0-or-later
"""One tree watch through the mount says what a watch on each directory says on Linux."""

from __future__ import annotations

import os

import pytest

from tests.differential.conftest import World
from tests.differential.tree_scenarios import OVERFLOWS, SCENARIOS
from tests.differential.trees import LinuxTree, OurTree, Steps, recorded

pytestmark = pytest.mark.mount


def both(steps: Steps, linux: World, ours: World, queue: int | None = None) -> list[list[str]]:
    native = LinuxTree(linux.directory(), queue)
    through = OurTree(ours.connection, ours.top, ours.directory(), queue)
    try:
        return [recorded(steps, native), recorded(steps, through)]
    finally:
        native.close()
        through.close()


@pytest.mark.parametrize("steps", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_a_tree_watch_agrees_with_linux(steps: Steps, linux: World, ours: World) -> None:
    on_linux, through_the_mount = both(steps, linux, ours)
    assert through_the_mount == on_linux


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make short queues on Linux")
@pytest.mark.parametrize("steps", OVERFLOWS.values(), ids=OVERFLOWS.keys())
def test_a_full_queue_of_a_tree_watch_agrees_with_linux(
    steps: Steps, linux: World, ours: World
) -> None:
    on_linux, through_the_mount = both(steps, linux, ours, queue=4)
    assert through_the_mount == on_linux
