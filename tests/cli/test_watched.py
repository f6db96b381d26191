# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches keep their paths through renames."""

from __future__ import annotations

import pytest

from fusenotify.cli.watched import WatchedPaths


@pytest.fixture
def paths() -> WatchedPaths:
    table = WatchedPaths()
    for wd, path in enumerate([b"m/", b"m/a/", b"m/a/b/", b"m/ab/", b"m/a.txt"], start=1):
        table.set(wd, path)
    return table


def test_a_renamed_directory_takes_what_is_below_with_it(paths: WatchedPaths) -> None:
    paths.moved(b"m/a/", b"m/z/")
    assert [paths.get(wd) for wd in range(1, 6)] == [
        b"m/",
        b"m/z/",
        b"m/z/b/",
        b"m/ab/",
        b"m/a.txt",
    ]


def test_below_a_directory_are_itself_and_its_descendants(paths: WatchedPaths) -> None:
    assert paths.below(b"m/a/") == [2, 3]


def test_a_forgotten_watch_has_no_path(paths: WatchedPaths) -> None:
    paths.forget(2)
    paths.forget(2)
    assert paths.get(2) is None
    assert len(paths) == 4
