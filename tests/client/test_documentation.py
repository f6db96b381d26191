# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/reference/trees.md: its examples run, and its commands print what is shown."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import takewhile

import pytest

from fusenotify import Mounted
from tests.cli.waiter import waiting
from tests.conftest import REPOSITORY, modules

MANUAL = (REPOSITORY / "docs" / "reference" / "trees.md").read_text()

pytestmark = pytest.mark.mount


def shown(command: str) -> list[str]:
    """Return the lines that are shown behind a command."""
    lines = MANUAL.split(f"    $ {command}\n")[1].splitlines()
    return [line.strip() for line in takewhile(lambda line: line.startswith("    "), lines)]


def test_the_examples_run(mounted: Mounted) -> None:
    watch, exclude = re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL)
    watch, read = watch.split("    for event in ")
    work = f"    import os; os.makedirs('{mounted.mountpoint}/a/b')\n"
    program = (
        watch + work + "    for event in " + read + "inotify = Inotify()\n" + exclude
    ).replace('"/mnt/x"', repr(mounted.mountpoint))
    done = subprocess.run(
        [sys.executable, "-c", program], env=modules(), stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.decode().splitlines() == [
        f"{mounted.mountpoint}/{name}" for name in ("a", "a/b")
    ]


def test_it_says_what_is_shown(mounted: Mounted) -> None:
    command, top = "mkdir a; ls a; mv a b; rmdir b", mounted.mountpoint
    with waiting("-m", "-r", "--format", "%|e %w%f", top) as waiter:
        subprocess.run(["sh", "-c", command], cwd=top, check=True)
        lines = [*waiter.lines_until(f"DELETE|ISDIR {top}/b"), "DELETE|ISDIR b"]
    # wait says of a CLOSE_NOWRITE that it is a CLOSE, too, as inotifywait does.
    told = [line.replace(f"{top}/", "").replace("|CLOSE|", "|") for line in lines]
    assert told == shown(command)
    assert len(told) == 14


def test_wait_prints_what_is_shown(mounted: Mounted) -> None:
    *expected, ellipsis = shown("mkdir mnt/a; ls mnt/a")
    mnt = mounted.mountpoint
    with waiting("-m", "-r", mnt) as waiter:
        subprocess.run(["sh", "-c", f"mkdir {mnt}/a; ls {mnt}/a"], check=True)
        lines = waiter.lines_until("CLOSE_NOWRITE,CLOSE,ISDIR a")
    assert ellipsis == "..."
    assert [line.replace(mnt, "mnt").rstrip() for line in lines[: len(expected)]] == expected
