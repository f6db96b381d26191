# SPDX-License-Identifier: GPL-2.0-or-later
"""SOURCEs that are filesystems of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify import mountinfo


def unmount(path: Path) -> None:
    """Take away what is mounted on a directory; os.path.ismount() sees no bind mount."""
    for mount in mountinfo.mounts():
        if mount.mountpoint == bytes(path):
            subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """The source directory, on which a test may mount something; unmounted at the end."""
    path = tmp_path / "source"
    path.mkdir()
    yield path
    unmount(path)


class FailingDisk:
    """A process that serves failing_disk.py, or another program like it, on a directory."""

    def __init__(self, mountpoint: Path, program: str = "failing_disk.py") -> None:
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name(program), mountpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.expect("ready")

    def expect(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().decode() == line + "\n"

    def let_go(self, times: int = 1) -> None:
        """Let that many end of those that are waited for."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n" * times)
        self.process.stdin.flush()

    def end(self) -> None:
        """End the process, whose filesystem nobody uses any more."""
        self.process.kill()
        with self.process:
            pass  # closes its pipes, and waits


@pytest.fixture
def disk(source: Path) -> Iterator[FailingDisk]:
    disk = FailingDisk(source)
    yield disk
    unmount(source)
    disk.end()
