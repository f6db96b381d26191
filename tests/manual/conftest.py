# SPDX-License-Identifier: GPL-2.0-or-later
"""A run that has tried the manual's examples says how many there are."""

from __future__ import annotations

import pytest

from tests.manual.__main__ import summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"manual: {summary()} (python -m tests.manual lists them)")
