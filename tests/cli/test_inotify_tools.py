# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` is inotifywait, and ``fusenotify watch`` inotifywatch, line by line.

Debian's programs run natively and ours in a mount, with the same activity
(tests.cli.compared): what they print and say, and their status, are the same
byte for byte, but for the program's name.  What differs on purpose is in
docs/wait.md, and here with what we do instead.
"""

from __future__ import annotations

import pytest

import fusenotify
from tests.cli.command_lines import BETTER, LINES
from tests.cli.compared import ARE_HERE, Line, Native, Ours, Result
from tests.cli.forks import Forks

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(not ARE_HERE, reason="there are no inotify-tools here"),
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
        item.callspec.params["line"]  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
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
