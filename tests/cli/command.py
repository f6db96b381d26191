# SPDX-License-Identifier: GPL-2.0-or-later
"""Running ``fusenotify`` as a shell does."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
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
    """Return an environment in which the command finds the package under test.

    And another user's Python the libraries that it needs.
    """
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{sysconfig.get_path('purelib')}"}


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until a condition holds that nothing announces; fail where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def ended(pid: int, seconds: float = 20.0) -> bool:
    """Wait until a process ended, and return whether it did."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
