# SPDX-License-Identifier: GPL-2.0-or-later
"""A scan looks at all that is there, and corrects what events told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.client.changes import Change, Kind
from fusenotify.client.scanning import merged, scan
from fusenotify.protocol.past import PastEvent
from tests.conftest import User

GAP = PastEvent(cursor="", sequence=0, time=2**62, mask=IN_Q_OVERFLOW, since=0)


def change(kind: str, path: str, old_path: str | None = None, *, modified: bool = False) -> Change:
    old = None if old_path is None else old_path.encode()
    return Change(path.encode(), Kind(kind), False, old, modified)


@pytest.mark.parametrize(
    ("told", "scanned", "expected"),
    [
        (change("created", "f"), change("deleted", "f"), []),
        (change("created", "f"), change("modified", "f"), [change("created", "f")]),
        (change("deleted", "f"), change("modified", "f"), [change("modified", "f")]),
        (change("attributes", "f"), change("deleted", "f"), [change("deleted", "f")]),
        (change("moved", "f", "e"), change("deleted", "f"), [change("deleted", "e")]),
        (
            change("moved", "f", "e"),
            change("modified", "f"),
            [change("moved", "f", "e", modified=True)],
        ),
        (
            change("moved", "f", "e"),
            change("modified", "e"),
            [change("modified", "e"), change("moved", "f", "e")],
        ),
    ],
)
def test_a_scan_corrects_what_events_told(
    told: Change, scanned: Change, expected: list[Change]
) -> None:
    assert merged([told], [scanned]) == expected


def test_a_scan_goes_deeper_than_a_path_can(tmp_path: Path) -> None:
    depth = 100
    descriptor = os.open(tmp_path, os.O_PATH)
    for _ in range(depth):
        os.mkdir("d" * 99, dir_fd=descriptor)
        below = os.open("d" * 99, os.O_PATH, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    try:
        found = scan(bytes(tmp_path), b"/", [GAP], {})
        assert len(found) == depth + 1
        assert len(found[-1].path) == depth * 100 - 1
    finally:
        shutil.rmtree(tmp_path / ("d" * 99))


def test_what_is_below_a_directory_that_may_not_be_read_is_not_taken_for_gone(
    public_path: Path, nobody: User
) -> None:
    for name, mode in (("listed", 0o744), ("searched", 0o711)):
        (public_path / name / "a").mkdir(parents=True)
        (public_path / name / "a" / "b").touch()
        (public_path / name).chmod(mode)
    script = (
        "import sys\n"
        "from tests.history.test_scanning import GAP, scan\n"
        "known = {b'listed/a/b': False, b'searched/a/b': False, b'gone': False}\n"
        "for each in scan(sys.argv[1].encode(), b'/', [GAP], known):\n"
        "    print(each.kind, each.path.decode())"
    )
    done = nobody.run(nobody.python, "-c", script, public_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "modified ",
        "deleted gone",
        "modified listed",
        "modified searched",
    ]
