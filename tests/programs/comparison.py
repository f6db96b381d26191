# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a program natively, then through a mount that is watched, and comparing.

tests.programs.__main__ and test_programs use it.

Invariants
    Both runs work in directories of one disk, with the same material.
    The mount is watched as a whole, new directories too, by a client that
        drains what it hears, from before the program until the unmount.
    SOURCE must be what the mount showed when it is gone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import fusenotify
from fusenotify import Mounted
from tests.bench import watcher
from tests.conftest import REPOSITORY
from tests.programs.programs import Place, Program
from tests.programs.trees import described, differences


@dataclass(slots=True)
class Comparison:
    """What came of one program: objects compared, bytes of events heard, seconds of each run."""

    objects: int
    natively: float
    through: float
    heard: int = 0
    differences: list[str] = field(default_factory=list)


def compared(
    program: Program, material: Path, size: int, top: Path, options: Sequence[str] = ()
) -> Comparison:
    """Run a program in top, which others may reach and is empty; options are the mount's.

    Raises CalledProcessError where the program fails.
    """
    native, source, mnt = (top / name for name in ("native", "source", "mnt"))
    for directory in (native, source, mnt):
        directory.mkdir()
    start = monotonic()
    said = program.run(Place(native, material, size))
    middle = monotonic()
    expected = described(str(native))
    with fusenotify.mounted(source, mnt, options=options) as mount, _watched(mount) as client:
        begin = monotonic()
        said_through = program.run(Place(mnt, material, size))
        result = Comparison(len(expected), middle - start, monotonic() - begin)
        shown = described(str(mnt))
    output, _ = client.communicate()
    result.heard = int(output)
    if said_through != said:
        result.differences.append(f"it said {said_through!r}, natively {said!r}")
    kinds = {"times": program.times, "own_content": program.own_content}
    result.differences += differences(expected, shown, **kinds)  # type: ignore[arg-type]
    kept = differences(shown, described(str(source)), times=True)
    result.differences += [f"SOURCE and mount: {line}" for line in kept]
    if not result.heard:
        result.differences.append("the watcher heard nothing")
    return result


@contextmanager
def _watched(mount: Mounted) -> Iterator[subprocess.Popen[str]]:
    """Let a client drain a tree watch of the mount; it ends with the mount."""
    command = [sys.executable, watcher.__file__, "--tree", mount.socket, "/"]
    client = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(REPOSITORY)}
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        yield client
    except BaseException:
        client.kill()
        client.communicate()
        raise


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory for a comparison, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="fusenotify-programs-") as top:
        yield Path(top)
