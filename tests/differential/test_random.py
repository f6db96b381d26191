# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programs do the same on Linux and through the mount; tests.differential.soak runs more."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fusenotify.bits import IN_DELETE
from tests.differential.conftest import OurDevice, World
from tests.differential.programs.generated import first_difference
from tests.differential.programs.lockstep import Lockstep

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, too"),
]

_OPERATIONS = 4_000


@pytest.fixture
def lockstep(linux: World, ours: World) -> Iterator[Lockstep]:
    lockstep = Lockstep(linux, ours)
    yield lockstep
    lockstep.close()


def test_random_programs_agree_with_linux(lockstep: Lockstep) -> None:
    difference = first_difference(lockstep, seed=1, operations=_OPERATIONS)
    if difference is not None:
        raise lockstep.smallest(difference)
    assert lockstep.steps >= _OPERATIONS


def test_a_difference_is_found_and_reduced(
    lockstep: Lockstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deliberate fault in our watches: deletions are not reported."""
    add_watch = OurDevice.add_watch
    monkeypatch.setattr(
        OurDevice, "add_watch", lambda self, path, mask: add_watch(self, path, mask & ~IN_DELETE)
    )
    difference = first_difference(lockstep, seed=1, operations=_OPERATIONS)
    assert difference is not None
    smallest = lockstep.smallest(difference)
    assert len(smallest.program.steps) <= 4
    assert "AddWatch(" in str(smallest)
    assert "DELETE" in str(smallest.on_linux)
    assert "DELETE" not in str(smallest.through_the_mount)
