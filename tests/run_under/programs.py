# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting programs under ``fusenotify run``, and the C program that most tests run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.cli.command import FUSENOTIFY, environment

SOURCE = Path(__file__).with_name("scenarios.c")
# Those that answer the same natively and under run.
_ALIKE = (
    "events_are_read size_40 size_300 size_4096 size_8192 short_buffer short_buffer_blocking "
    "bad_buffer limited half_mapped endless_buffer fionread nonblock_later polled epoll_level "
    "epoll_edge duplicated forked executed executed_without threads merging removing refused "
    "own_paths links_to_self both_worlds interrupted restarted signal_storm by_signal vectors "
    "signals_to_threads workers many_descriptors storm_of_500 old_init"
)
ALIKE = _ALIKE.split()
# Those of them that only root can run.
AS_ROOT = ["in_a_new_root", "in_a_container"]


def compiled(directory: Path, *flags: str) -> Path:
    """Compile the scenarios into a directory, and return the program.

    Raises OSError, CalledProcessError.
    """
    program = directory / "scenarios"
    command = ["gcc", "-static", "-O1", "-pthread", *flags, "-o", str(program), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    return program


def run_command(*arguments: str | Path) -> list[str]:
    """Return the command line of ``fusenotify run`` with arguments."""
    return [*FUSENOTIFY, "run", *map(str, arguments)]


def under(*arguments: str | Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run ``fusenotify run`` to its end."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        run_command(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **settings,
    )


def answers(output: str) -> dict[str, str]:
    """Return what each scenario printed, of the output of several."""
    parts = re.split(r"^== (\w+)\n", output, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
