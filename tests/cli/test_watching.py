# SPDX-License-Identifier: GPL-2.0-or-later
"""Of directories that lie in each other only the outermost is watched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusenotify.cli.watching import outermost


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for directory in ("a/b/c", "ab", "z"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "a/file").touch()
    (tmp_path / "link").symlink_to("a/b")
    return tmp_path


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        pytest.param(["a", "a/b"], ["a"], id="the outer one first"),
        pytest.param(["a/b/c", "z", "a"], ["z", "a"], id="the inner one first"),
        pytest.param(["a", "ab"], ["a", "ab"], id="a name that begins as another"),
        pytest.param(["a", "a/", "./a", "a"], ["a"], id="one several times"),
        pytest.param(["link", "a"], ["a"], id="through a link"),
        pytest.param(["a/file", "a"], ["a/file", "a"], id="a file has a watch of its own"),
        pytest.param(["a", "a/none", "none"], ["a", "a/none", "none"], id="what is not there"),
    ],
)
def test_what_is_kept(
    top: Path, named: list[str], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(top)
    assert outermost([os.fsencode(name) for name in named]) == [os.fsencode(name) for name in kept]


def test_another_filesystem_below_is_another_tree() -> None:
    assert outermost([b"/", b"/proc"]) == [b"/", b"/proc"]
