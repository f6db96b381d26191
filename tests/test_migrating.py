# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs in docs/how-to/migrating.md and docs/reference/python.md print what is said.

So do the programs that they replace.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fusenotify.masks
from fusenotify import Mounted
from fusenotify.client import Inotify
from tests.cli.command import until
from tests.conftest import REPOSITORY, modules

MIGRATING = (REPOSITORY / "docs" / "how-to" / "migrating.md").read_text()
PYTHON = (REPOSITORY / "docs" / "reference" / "python.md").read_text()
README = (REPOSITORY / "README.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", MIGRATING, re.DOTALL | re.MULTILINE))


def programs(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@contextlib.contextmanager
def running(program: str, mount: Mounted) -> Iterator[subprocess.Popen[str]]:
    """Run a program of a manual, whose /mnt/x is the mount."""
    assert '"/mnt/x' in program
    program = re.sub('"/mnt/x(.*?)"', f'"{mount.mountpoint}\\1"', program)
    command = [sys.executable, "-u", "-W", "ignore", "-c", program]
    with subprocess.Popen(command, env=modules(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], is_so: Callable[[], bool]) -> None:
    until(lambda: is_so() or process.poll() is not None, "it watches")
    assert process.poll() is None, "it ended before it watched"


def watches_natively(process: subprocess.Popen[str]) -> bool:
    """Return whether a process has a watch of the kernel's inotify."""
    found = ""
    for each in Path(f"/proc/{process.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += each.read_text()
    return "inotify wd:" in found


def watches_here(mount: Mounted) -> bool:
    """Return whether anybody has a watch in the mount."""
    with mount.client() as client:
        return any(device.watches for each in client.status().clients for device in each.devices)


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
def test_what_stands_in_the_tables_exists(name: str) -> None:
    rows = [line for line in SECTIONS[name].splitlines() if line.startswith("| ")]
    ours = "\n".join(row.rpartition(" | ")[2] for row in rows)
    methods = re.findall(r"\binotify\.(\w+)\(", ours)
    assert methods or name == "watchdog"
    assert {method for method in methods if not hasattr(Inotify, method)} == set()
    constants = re.findall(r"\bIN_\w+", ours)
    assert {each for each in constants if not hasattr(fusenotify.masks, each)} == set()


@pytest.mark.mount
@pytest.mark.parametrize(
    ("program", "printed"),
    [
        pytest.param(programs(README)[0], "CREATE MNT/docs/report.txt", id="the readme"),
        pytest.param(programs(PYTHON)[0], "CREATE MNT/docs/report.txt", id="a loop"),
        pytest.param(programs(PYTHON)[3], "MNT/report.txt", id="add_reader()"),
        pytest.param(programs(PYTHON)[4], "created MNT/report.txt", id="watchdog"),
    ],
)
def test_a_program_prints_what_happens(program: str, printed: str, mounted: Mounted) -> None:
    place = Path(mounted.mountpoint, "docs") if "/docs/" in printed else Path(mounted.mountpoint)
    place.mkdir(exist_ok=True)
    with running(program, mounted) as process:
        wait_for(process, lambda: watches_here(mounted))
        (place / "report.txt").touch()
        assert process.stdout is not None
        assert process.stdout.readline().strip() == printed.replace("MNT", mounted.mountpoint)


def test_a_session_goes_as_shown_and_types_are_as_said() -> None:
    session, annotated = programs(PYTHON)[1:3]
    test = doctest.DocTestParser().get_doctest(session, {}, "python.md", None, 0)
    assert len(test.examples) == 4
    assert doctest.DocTestRunner().run(test).failed == 0
    exec(annotated, {})


def test_every_program_of_the_manual_is_tried() -> None:
    assert len(programs(PYTHON)) == 5
    assert len(SECTIONS) == 5
