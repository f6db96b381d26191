# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of tests/ that take arguments say so when they are asked for help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.command import environment

TOOLS = (
    "fs.walk",
    "manual.top_picture",
    "run_under.kills",
    "run_under.matrix",
    "server.fuzz_atheris",
    "watchdog",
)


def test_a_tool_that_is_asked_for_help_prints_it_and_does_nothing_else(tmp_path: Path) -> None:
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", f"tests.{name}", "--help"],
            env=environment(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in TOOLS
    }
    for name, tool in running.items():
        said = tool.communicate(timeout=60)[0]
        assert (tool.returncode, f"python -m tests.{name}" in said) == (0, True), said
    assert list(tmp_path.iterdir()) == []
