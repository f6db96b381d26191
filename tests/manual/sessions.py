# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the sessions of a page in a shell, and compare what they print with what is shown.

A session's lines are ``$ COMMAND``, ``> `` and more of the command, and what is
printed, by programs in the background, too.  Of what is shown

    ...             alone on a line is any number of lines, within one any text
    <!-- numbers vary -->   any number stands for any other, any space for any spaces
    <!-- before: COMMANDS --> are run first, unseen

One shell runs all sessions of a page, in an empty directory.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fusenotify import mountinfo
from fusenotify.client import Client
from fusenotify.client.locate import SOCKET_XATTR
from tests.cli.command import environment, fusenotify, until
from tests.manual.pages import Block

# How long, in seconds, a command may take.
PATIENCE = 60.0
# Takes commands, each ended by a NUL, from descriptor 3; writes a byte to 4 when one has ended.
_SHELL = r"""
while IFS= read -r -d '' -u 3 command; do
    (exit "$status"); eval "$command" </dev/null 3<&- 4>&-
    status=$?
    printf . >&4
done
"""
# What pytest would load in a session, for a second, and no example uses.
_UNUSED_PLUGINS = ("asyncio", "cacheprovider", "hypothesispytest", "trio", "xdist")
_WRAPPERS = {
    "fusenotify": [sys.executable, "-m", "fusenotify"],
    "python": [sys.executable],
    "pytest": [sys.executable, "-m", "pytest"],
}


@dataclass
class Step:
    """A command, and the lines that are shown after it."""

    command: str
    shown: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """Return what a session does.  Raises ValueError where it does not begin with a command."""
    found: list[Step] = []
    for line in text.splitlines():
        if not line and found:
            continue
        if line.startswith("$ "):
            found.append(Step(line[2:]))
        elif not found:
            raise ValueError(f"no command before {line!r}")
        elif line.startswith("> ") and not found[-1].shown:
            found[-1].command += "\n" + line[2:]
        else:
            found[-1].shown.append(line)
    return found


def as_pattern(line: str, numbers_vary: bool) -> re.Pattern[str]:
    """Return what a line that is printed must match where this one is shown."""
    pattern = re.escape(line.rstrip()).replace(r"\.\.\.", ".*")
    if numbers_vary:
        pattern = re.sub(r"\d+(,\d+)*(\\\.\d+)?", r"\\d[\\d,.]*", pattern)
        pattern = re.sub(r"(\\ )+", " +", pattern)
    return re.compile(pattern)


def matched(shown: list[str], printed: list[str], numbers_vary: bool) -> bool:
    """Return whether all that is printed is what is shown."""
    if not shown:
        return not printed
    if shown[0].strip() == "...":
        return any(
            matched(shown[1:], printed[skipped:], numbers_vary)
            for skipped in range(len(printed) + 1)
        )
    return (
        bool(printed)
        and as_pattern(shown[0], numbers_vary).fullmatch(printed[0].rstrip()) is not None
        and matched(shown[1:], printed[1:], numbers_vary)
    )


class Shell:
    """A shell in a directory of its own, for a block; it leaves no mount and no program."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read, self._write = os.pipe()
        self._ended, ending = os.pipe()
        self._buffer = b""
        programs = directory / ".bin"
        programs.mkdir()
        for name, command in _WRAPPERS.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
            (programs / name).chmod(0o755)
        work = directory / "work"
        work.mkdir()
        self._shell = subprocess.Popen(
            [
                "bash",
                "--noprofile",
                "--norc",
                "-c",
                f"exec 3<&{self._read} 4>&{ending}; status=0; {_SHELL}",
            ],
            cwd=work,
            env=environment()
            | {
                "PATH": f"{programs}:{os.environ['PATH']}",
                "HOME": str(directory),
                "LC_ALL": "C.UTF-8",
                "PYTHONUNBUFFERED": "1",
                "COLUMNS": "80",
                "NO_COLOR": "1",
                "PYTEST_ADDOPTS": " ".join(f"-p no:{name}" for name in _UNUSED_PLUGINS),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self._read, ending],
            start_new_session=True,
        )
        os.close(ending)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()
        for descriptor in (self._read, self._write, self._ended):
            os.close(descriptor)
        for mountpoint in self._mountpoints():
            fusenotify("unmount", mountpoint)

    def run(self, block: Block) -> None:
        """Run one session.  Raises AssertionError where it prints something else."""
        numbers_vary = "numbers vary" in block.notes
        if before := block.notes.get("before"):
            self._do(before, ["..."], numbers_vary)
        for step in steps(block.text):
            watching = self._watching()
            printed = self._do(step.command, step.shown, numbers_vary)
            if step.command.endswith("&") and not step.shown:
                self._wait_for_another(watching)
            if not matched(step.shown, printed, numbers_vary):
                difference = "\n".join(
                    difflib.unified_diff(step.shown, printed, "shown", "printed", lineterm="")
                )
                raise AssertionError(f"{block.place}: $ {step.command}\n{difference}")

    def _mountpoints(self) -> list[str]:
        """Return where something is mounted in the directory, the newest first."""
        inside = os.fsencode(self.directory) + b"/"
        return [
            os.fsdecode(mount.mountpoint)
            for mount in reversed(mountinfo.mounts())
            if mount.fstype == mountinfo.FSTYPE and mount.mountpoint.startswith(inside)
        ]

    def _watching(self) -> set[int]:
        """Return the processes that watch something in the mounts of the directory."""
        found = set()
        for mountpoint in self._mountpoints():
            with Client(os.getxattr(mountpoint, SOCKET_XATTR)) as client:
                for each in client.status().clients:
                    if any(device.watches for device in each.devices):
                        found.add(each.pid)
        return found

    def _wait_for_another(self, before: set[int]) -> None:
        """Wait for a program in the background that does not say when it watches."""
        until(lambda: bool(self._watching() - before), "it watches")

    def _do(self, command: str, shown: list[str], numbers_vary: bool) -> list[str]:
        """Run a command until it ended and what is shown was printed, or for PATIENCE."""
        os.write(self._write, command.encode() + b"\0")
        printed: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while not select.select([self._ended], [], [], 0)[0]:
            if time.monotonic() > deadline or self._shell.poll() is not None:
                return [*printed, f"(not within {PATIENCE:g} s)"]
            printed += self._lines(0.1, self._ended)
        os.read(self._ended, 1)
        printed += self._lines(0)  # what the command itself printed is there
        while not matched(shown, printed, numbers_vary):
            # What is wrong by now stays wrong, but a program in the background may yet say more.
            left = deadline - time.monotonic()
            more = self._lines(min(left, 3.0) if len(printed) >= len(shown) else left)
            if not more:
                break
            printed += more
        return printed

    def _lines(self, patience: float, *others: int) -> list[str]:
        """Return whole lines that are printed; none if nothing comes, or one of others is ready."""
        assert self._shell.stdout is not None
        output = self._shell.stdout.fileno()
        lines: list[bytes] = []
        deadline = time.monotonic() + patience
        while True:
            wait = 0 if lines else max(deadline - time.monotonic(), 0)
            if output not in select.select([output, *others], [], [], wait)[0]:
                return [line.decode(errors="replace") for line in lines]
            data = os.read(output, 65536)
            *whole, self._buffer = (self._buffer + data).split(b"\n")
            lines += whole
            if not data:
                return [line.decode(errors="replace") for line in lines]
