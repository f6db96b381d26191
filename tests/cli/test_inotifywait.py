# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait -r`` beside inotifywait(1), which is given the time that it needs.

The same steps are done natively and in a mount.  inotifywait misses nothing
where it has caught up with a step before the next one; its own listing of new
directories is left out by asking for other events where there are some.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusenotify import Mounted
from tests.cli.command import until
from tests.cli.compared import sleeps
from tests.cli.waiter import Waiter, waiting

Step = Callable[[], object]

# What listing a directory does not cause.
_NOT_BY_LISTING = "modify,attrib,close_write,move,move_self,create,delete,delete_self"


def _listed(directory: str) -> Step:
    return lambda: os.listdir(directory)


def _written(path: str) -> Step:
    return lambda: Path(path).write_text("text")


def _made(path: str) -> Step:
    return lambda: os.mkdir(path)


def _renamed(path: str, other: str) -> Step:
    return lambda: os.rename(path, other)


def _removed(path: str) -> Step:
    return lambda: shutil.rmtree(path)


# The tree at first, the events that are asked for (or all), the steps.
_SCENARIOS = {
    "reading and writing": (
        ["t/a/b"],
        None,
        [
            _listed("t"),
            _listed("t/a/b"),
            _written("t/x"),
            _written("t/a/b/x"),
            _written("t/a/b/x"),
            lambda: Path("t/a/b/x").read_text(),
            lambda: os.chmod("t/a/b", 0o700),
            lambda: os.chmod("t", 0o700),
            _renamed("t/a/b/x", "t/y"),
            lambda: os.link("t/y", "t/a/z"),
            lambda: os.unlink("t/a/z"),
            lambda: os.symlink("a", "t/link"),
            _written("t/link/through"),
        ],
    ),
    "removing": (["t/a/b", "t/c"], None, [_removed("t/a"), _removed("t/c")]),
    "new directories": (
        ["t"],
        _NOT_BY_LISTING,
        [
            _made("t/a"),
            _written("t/a/x"),
            _made("t/a/b"),
            _made("t/a/b/c"),
            _written("t/a/b/c/x"),
            _removed("t/a"),
            _made("t/a"),
            _written("t/a/x"),
        ],
    ),
    "renamed directories": (
        ["t/a/b/c", "t/d"],
        None,
        [
            _renamed("t/a", "t/z"),
            _written("t/z/b/c/x"),
            _renamed("t/z/b", "t/d/b"),
            _written("t/d/b/c/y"),
            _listed("t/d/b/c"),
            _renamed("t/d", "t/z/d"),
            _written("t/z/d/b/c/z"),
        ],
    ),
    "directories from outside": (
        ["t", "from/a/b"],
        _NOT_BY_LISTING,
        [_renamed("from", "t/from"), _written("t/from/a/b/x"), _removed("t/from/a")],
    ),
    "the watched directory itself": (
        ["t/a"],
        None,
        [_renamed("t", "elsewhere"), _written("elsewhere/a/x"), _removed("elsewhere/a")],
    ),
    "some events only": (
        ["t/a"],
        "delete,delete_self,moved_to",
        [_made("t/b"), _renamed("t/b", "t/a/b"), _written("t/a/b/x"), _removed("t/a")],
    ),
}


def _told(waiter: Waiter, steps: list[Step], caught_up: Callable[[], object]) -> list[str]:
    """Take steps and return what the watcher prints, without repeated lines.

    Whether equal events merge is a matter of when they are read.
    """
    for step in steps:
        step()
        caught_up()
    top = "t" if os.path.exists("t") else "elsewhere"
    Path(top, "last").touch()
    os.unlink(f"{top}/last")
    return [line for line, _ in itertools.groupby(waiter.lines_until("t/ DELETE last"))]


@contextmanager
def _standing_in(directory: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.mount
@pytest.mark.skipif(shutil.which("inotifywait") is None, reason="there is no inotifywait here")
@pytest.mark.parametrize("scenario", _SCENARIOS)
def test_it_prints_what_inotifywait_prints_had_it_missed_nothing(
    mounted: Mounted, tmp_path: Path, scenario: str
) -> None:
    directories, events, steps = _SCENARIOS[scenario]
    arguments = ["-m", "-r", *(["-e", events] if events else []), "t"]
    native = tmp_path / "native"
    native.mkdir()
    for top in (str(native), mounted.mountpoint):
        for directory in directories:
            os.makedirs(f"{top}/{directory}")
    with _standing_in(native), _inotifywait(arguments) as waiter:

        def caught_up() -> None:
            until(lambda: sleeps(waiter.process.pid), "inotifywait has caught up")

        expected = _told(waiter, steps, caught_up)
    with _standing_in(Path(mounted.mountpoint)), waiting(*arguments) as waiter:
        assert _told(waiter, steps, lambda: None) == expected


@contextmanager
def _inotifywait(arguments: list[str]) -> Iterator[Waiter]:
    with subprocess.Popen(
        ["inotifywait", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Setting up watches.")
        assert process.stderr.readline() == "Watches established.\n"
        try:
            yield Waiter(process)
        finally:
            process.kill()
