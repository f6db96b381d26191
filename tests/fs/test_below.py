# SPDX-License-Identifier: GPL-2.0-or-later
"""What need not be asked of SOURCE's filesystem."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.fs.below import Below

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts other filesystems")


def mount(kind: str, path: Path) -> None:
    subprocess.run(["mount", "-t", kind, kind, str(path)], check=True)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A directory that is a tmpfs, with a directory ``inner`` in it."""
    path = tmp_path / "memory"
    path.mkdir()
    mount("tmpfs", path)
    (path / "inner").mkdir()
    yield path
    subprocess.run(["umount", "--recursive", str(path)], check=True)


def below(path: Path) -> Below:
    fd = os.open(path, os.O_PATH)
    try:
        return Below.of(fd)
    finally:
        os.close(fd)


def test_memory_has_nothing_to_report_at_a_close_nor_to_wait_for(in_memory: Path) -> None:
    assert below(in_memory / "inner") == Below(
        flushes=False, in_memory=True, reserves=False, sleeps=False
    )


def test_an_unknown_kind_is_asked_everything() -> None:
    assert below(Path("/proc")) == Below(flushes=True, in_memory=False, reserves=False)


def test_another_filesystem_inside_may_have_something_to_report(in_memory: Path) -> None:
    mount("proc", in_memory / "inner")
    assert below(in_memory) == Below(flushes=True, in_memory=True, reserves=True, sleeps=False)
