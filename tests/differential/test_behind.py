# SPDX-License-Identifier: GPL-2.0-or-later
"""What is heard of changes of SOURCE differs from inotify only as is known.

python -m tests.differential.behind has all scenarios; here are those that differ, and some more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.behind import KNOWN, known, native_and_behind, way
from tests.differential.conftest import World, both
from tests.differential.scenario import SCENARIOS

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem"),
]


# Each known difference, and a tenth of the others.
PART = [*KNOWN, *[name for name in SCENARIOS if name not in KNOWN][::10]]


@pytest.fixture(scope="module", params=["all", "watched"])
def behind(request: pytest.FixtureRequest) -> str:
    word = request.param
    assert isinstance(word, str)
    return word


@pytest.fixture(scope="module")
def worlds(behind: str, public_top: Path) -> Iterator[tuple[World, World]]:
    (public_top / behind).mkdir()
    with native_and_behind(public_top / behind, behind) as made:
        yield made


@pytest.mark.parametrize("name", PART)
def test_differs_from_linux_only_as_is_known(
    name: str, behind: str, worlds: tuple[World, World]
) -> None:
    on_linux, heard = both(SCENARIOS[name], *worlds)
    assert way(on_linux, heard) == known(name, behind), (on_linux, heard)
