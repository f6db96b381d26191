# SPDX-License-Identifier: GPL-2.0-or-later
"""Running ``fusenotify`` as a shell does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

FUSENOTIFY = [sys.executable, "-m", "fusenotify"]


def fusenotify(
    *arguments: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and return its status and output."""
    return subprocess.run(
        [*FUSENOTIFY, *map(str, arguments)],
        env=environment() | (env or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return an environment in which the command finds the package under test."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}
