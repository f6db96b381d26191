# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled scenarios, and programs under ``fusenotify run``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fusenotify.testing.programs import why_not_supervised
from tests.run_under.programs import compiled


@pytest.fixture(autouse=True)
def run_is_possible() -> None:
    """Skip where the kernel, or what runs the tests, does not let a program be supervised."""
    if reason := why_not_supervised():
        pytest.skip(f"cannot run programs supervised: {reason}")


@pytest.fixture(scope="session")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of scenarios.c."""
    try:
        return compiled(tmp_path_factory.mktemp("scenarios"))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"gcc cannot make a static program: {error}")
