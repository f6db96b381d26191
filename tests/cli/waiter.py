# SPDX-License-Identifier: GPL-2.0-or-later
"""Run ``fusenotify wait`` beside a test."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusenotify import Mounted
from tests.cli.command import FUSENOTIFY, environment, until

# How long, in seconds, a test may wait for a line.
_PATIENCE = 60.0


class Waiter:
    """A running ``fusenotify wait``, and the lines it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def lines_until(self, last: str) -> list[str]:
        """Return the lines up to the one that ends in last, that one left out."""
        lines: list[str] = []
        for line in self.lines():
            if line.endswith(last):
                return lines
            lines.append(line)
        pytest.fail(f"it ended without {last!r} behind {lines}")

    def lines(self) -> Iterator[str]:
        """Yield each line as it comes, without its end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.rstrip("\n")

    def end(self) -> tuple[str, str, int]:
        """Wait until it ends; return the rest of its output, its messages and its status."""
        out, err = self.process.communicate(timeout=30)
        return out, err, self.process.returncode


@contextmanager
def waiting(
    *arguments: str | Path, quiet: bool = False, command: Sequence[str] = FUSENOTIFY
) -> Iterator[Waiter]:
    """Run ``fusenotify wait`` for a block, which starts when its watches are there.

    Where quiet, it does not say so, and the block starts at once.
    """
    with subprocess.Popen(
        [*command, "wait", *["-qq"] * quiet, *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        patience = threading.Timer(_PATIENCE, process.kill)  # so that what never comes ends, too
        patience.start()
        try:
            if not quiet:
                assert process.stderr.readline().startswith("Setting up watches.")
                assert process.stderr.readline() == "Watches established.\n"
            yield Waiter(process)
        finally:
            patience.cancel()
            process.kill()


def wait_until_read(mount: Mounted) -> None:
    """Wait until nothing is queued for anybody."""
    with mount.client() as client:
        until(
            lambda: (
                not any(
                    device.queued for each in client.status().clients for device in each.devices
                )
            ),
            "all queues are empty",
        )


def wait_for_watches(mount: Mounted, count: int) -> None:
    """Wait until there is a number of watches, which are made after new directories appear."""
    with mount.client() as client:
        until(
            lambda: sum(user.watches for user in client.status().users) == count,
            f"{count} watches",
        )
