# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/how-to/migrating.md: programs print what those print that they replace."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import fusenotify.masks
from fusenotify import Mounted
from fusenotify.client import Inotify
from tests.conftest import REPOSITORY
from tests.manual.programs import running, wait_for, watches_here, watches_natively

MIGRATING = (REPOSITORY / "docs" / "how-to" / "migrating.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", MIGRATING, re.DOTALL | re.MULTILINE))


def programs(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.mount
@pytest.mark.parametrize("name", SECTIONS)
def test_both_programs_print_the_same(name: str, mounted: Mounted) -> None:
    before, after = programs(SECTIONS[name])
    top = Path(mounted.mountpoint)
    with running(after, mounted) as process:
        wait_for(process, lambda: watches_here(mounted))
        (top / "report.txt").touch()
        printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    (line,) = printed.splitlines()
    assert "report.txt" in line
    (top / "report.txt").unlink()
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: what it prints was not compared")
    with running(before, mounted) as process:
        wait_for(process, lambda: watches_natively(process))
        (top / "report.txt").touch()
        assert process.communicate(timeout=20)[0] == printed


@pytest.mark.parametrize("name", SECTIONS)
def test_the_names_in_the_tables_exist(name: str) -> None:
    rows = [line for line in SECTIONS[name].splitlines() if line.startswith("| ")]
    ours = "\n".join(row.rpartition(" | ")[2] for row in rows)
    methods = re.findall(r"\binotify\.(\w+)\(", ours)
    assert methods or name == "watchdog"
    assert {method for method in methods if not hasattr(Inotify, method)} == set()
    constants = re.findall(r"\bIN_\w+", ours)
    assert {each for each in constants if not hasattr(fusenotify.masks, each)} == set()


def test_every_program_of_the_manual_is_tried() -> None:
    assert len(SECTIONS) == 5
