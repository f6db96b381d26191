# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` is inotifywait, and ``fusenotify watch`` inotifywatch, line by line.

Debian's programs run natively and ours in a mount, with the same activity
(tests.cli.compared): what they print and say, and their status, are the same
byte for byte, but for the program's name.  What differs on purpose is in
docs/reference/wait.md, and here with what we do instead.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

import fusenotify
from tests.cli.command import FUSENOTIFY, environment, until
from tests.cli.command_lines import BETTER, LINES
from tests.cli.compared import (
    INOTIFY_TOOLS,
    Line,
    Native,
    Ours,
    Result,
    normal,
    watches_of,
    why_not_compared,
)
from tests.cli.forks import Forks

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(bool(why_not_compared()), reason=why_not_compared()),
]

Results = dict[Line, tuple[Result, Result]]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What both did with each command line that is tested, all run together."""
    top = tmp_path_factory.mktemp("inotify-tools")
    directories = [top / name for name in ("source", "mnt", "native", "their files", "our files")]
    for directory in directories:
        directory.mkdir()
    source, mnt, native, their_files, our_files = directories
    lines: list[Line] = [
        cast(Line, item.callspec.params["line"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and "results" in item.fixturenames
    ]
    natively = Native(native, their_files)
    theirs = natively.run(lines)
    with (
        fusenotify.mounted(source, mnt) as mounted,
        mounted.client() as client,
        Forks() as forks,
    ):
        better = dict(BETTER)
        expected = [better.get(line, result) for line, result in zip(lines, theirs, strict=True)]
        ours = Ours(mounted, client, our_files, forks).run(lines, expected)
    for number, (line, result) in enumerate(zip(lines, ours, strict=True)):
        # Under load Linux has been seen to lose events: theirs may have another chance, ours not.
        for _ in range(2 if line in LINES else 0):
            if theirs[number] != result:
                (theirs[number],) = natively.run([line])
    return dict(zip(lines, zip(theirs, ours, strict=True), strict=True))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.command)
def test_it_does_what_inotify_tools_do(line: Line, results: Results) -> None:
    theirs, ours = results[line]
    assert ours == theirs
    assert not theirs.done


@pytest.mark.parametrize(
    ("line", "better"), BETTER, ids=lambda value: getattr(value, "command", "better")
)
def test_it_does_better(line: Line, better: Result, results: Results) -> None:
    theirs, ours = results[line]
    assert ours == better
    assert theirs != better


@pytest.mark.skipif(bool(os.geteuid()), reason="only root mounts a tmpfs")
@pytest.mark.parametrize(
    "command",
    [
        "wait m",
        "wait -e create m",
        "wait -e create,unmount m",
        "wait -m -r -t 2 -e unmount,ignored --format %w|%f|%e m",
        "watch -z -t 2 -e unmount,create m",
    ],
)
def test_the_end_of_a_filesystem_is_told_as_they_tell_it(command: str, tmp_path: Path) -> None:
    for name in ("native/m", "ours/m", "source"):
        (tmp_path / name).mkdir(parents=True)
    program, *arguments = command.split()

    mounted = f"{tmp_path}/native/m"
    with ExitStack() as end:
        subprocess.run(["mount", "-t", "tmpfs", "none", mounted], check=True)
        end.callback(subprocess.run, ["umount", "-lq", mounted], check=False)
        native = _started([INOTIFY_TOOLS[program], *arguments], tmp_path / "native")
        end.callback(native.kill)
        until(lambda: watches_of(native.pid) == 1, "it watches")
        subprocess.run(["umount", mounted], check=True)
        theirs = _result(native)
    with fusenotify.mounted(tmp_path / "source", tmp_path / "ours/m") as mount:
        ours = _started([*FUSENOTIFY, program, *arguments], tmp_path / "ours")
        with mount.client() as client:
            until(lambda: any(each.devices for each in client.status().clients), "it watches")
    assert _result(ours) == theirs


_SAID_OF_BYTES = [
    [b"wait", b"-q", b"gone\xff", b"-x"],
    [b"wait", b"-r", b"gone\xc3\xa9"],
    [b"wait", b"-e", b"\xff", b"t"],
    [b"wait", b"--exclude", b"\xff(", b"t"],
    [b"watch", b"--fromfile", b"\xff", b"@\xff"],
    [b"watch", b"-a", b"\xff", b"t", b"--\xff"],
]


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8"},
        {"LC_ALL": "nowhere.ISO-8859-1", "LANGUAGE": "de"},
        {"POSIXLY_CORRECT": "1"},
    ],
    ids=str,
)
def test_no_locale_changes_what_is_said(variables: dict[str, str], tmp_path: Path) -> None:
    native = [
        _started([INOTIFY_TOOLS[program.decode()].encode(), *arguments], tmp_path, variables)
        for program, *arguments in _SAID_OF_BYTES
    ]
    ours = [
        _started([*map(os.fsencode, FUSENOTIFY), *words], tmp_path, variables)
        for words in _SAID_OF_BYTES
    ]
    theirs = list(map(_result, native))
    assert all(each.said for each in theirs)
    assert list(map(_result, ours)) == theirs


def _started(
    words: list[str] | list[bytes], cwd: Path, variables: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        cwd=cwd,
        env=environment() | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _result(process: subprocess.Popen[bytes]) -> Result:
    with process:
        printed, said = process.communicate(timeout=30)
    return normal(printed, said, process.returncode)
