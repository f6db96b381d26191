# SPDX-License-Identifier: GPL-2.0-or-later
"""Command lines run by inotify-tools natively and by ``fusenotify`` in a mount.

Each has a directory of its own, where it and a shell run that does what it is
to see.  What is compared is what it prints, what it says, and its status.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fusenotify import Mounted
from fusenotify.client import Client
from tests.cli.command import until
from tests.cli.forks import Forks

INOTIFY_TOOLS = {"wait": "inotifywait", "watch": "inotifywatch"}
_VERSION = "3.22"
# How many of inotify-tools run at a time: each takes one of the user's 128 inotify instances.
_AT_A_TIME = 24
_PATIENCE = 20.0


def why_not_compared() -> str:
    """Return why inotify-tools cannot be compared with: nothing where they can."""
    for program in INOTIFY_TOOLS.values():
        if shutil.which(program) is None:
            return f"there is no {program} here"
        said = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
        first = said.stdout.partition("\n")[0]
        if not first.startswith(f"{program} {_VERSION}."):
            return f"{first} is not {_VERSION}, and other releases differ"
    return ""


class Line(NamedTuple):
    """A command line: ``wait -m t``, and what a shell does when it waits.

    before is done by a shell first; given is its standard input.  watches is
    how many watches inotify-tools have when they wait, and trees how many we
    have.  It is ended by a signal where it does not end itself; where awaited,
    it does.
    """

    command: str
    do: str = ""
    before: str = "mkdir -p t/a && : > f"
    given: bytes = b""
    watches: int = 1
    ours: int = 1
    awaited: bool = False
    signal: signal.Signals = signal.SIGTERM

    @property
    def words(self) -> list[bytes]:
        return [os.fsencode(word) for word in shlex.split(self.command)]


class Result(NamedTuple):
    """What a command printed and said, and its exit status, and that of what was done."""

    printed: bytes
    said: bytes
    status: int
    done: int = 0


@dataclass
class _Command:
    """A command that runs, or ran."""

    line: Line
    directory: Path
    files: Sequence[Path]
    pid: int
    pidfd: int
    acted: bool = False
    done: int = 0

    @property
    def result(self) -> tuple[bytes, bytes]:
        """What it printed and said so far."""
        printed, said = (file.read_bytes() for file in self.files[1:])
        return printed, said

    def has_ended(self, seconds: float = 0.0) -> bool:
        return bool(select.select([self.pidfd], [], [], seconds)[0])


class _World:
    """Where commands run: natively or in a mount."""

    def __init__(self, top: Path, files: Path) -> None:
        self._top = top
        self._files = files
        self._numbers = itertools.count()

    def run(self, lines: Sequence[Line], expected: Sequence[Result] = ()) -> list[Result]:
        """Run all, and return what they did; wait a while for what is expected of each.

        Those that end by themselves after some seconds come first, together.
        """
        order = sorted(range(len(lines)), key=lambda number: not lines[number].awaited)
        results: dict[int, Result] = {}
        for begin in range(0, len(lines), _AT_A_TIME):
            numbers = order[begin : begin + _AT_A_TIME]
            chosen = [lines[number] for number in numbers]
            commands = list(map(self._begin, chosen, self._prepare(chosen)))
            wanted = [expected[number] if expected else None for number in numbers]
            try:
                results.update(zip(numbers, self._run(commands, wanted), strict=True))
            finally:
                for command in commands:
                    if not command.has_ended():
                        os.kill(command.pid, signal.SIGKILL)
                    os.close(command.pidfd)
        return [results[number] for number in range(len(lines))]

    def _prepare(self, lines: Sequence[Line]) -> list[Path]:
        """Make a directory for each line, as it is to be before."""
        directories = [self._top / f"{next(self._numbers)}" for _ in lines]
        steps = [
            f"mkdir {directory.name}; cd {directory.name}; {line.before}; cd ..\n"
            for line, directory in zip(lines, directories, strict=True)
        ]
        assert not _shell("".join(steps), self._top)
        return directories

    def _begin(self, line: Line, directory: Path) -> _Command:
        files = [self._files / f"{directory.name}-{descriptor}" for descriptor in range(3)]
        for file, content in zip(files, (line.given, b"", b""), strict=True):
            file.write_bytes(content)
        pid = self.start(line, directory, files)
        command = _Command(line, directory, files, pid, os.pidfd_open(pid))
        if line.awaited:
            self._act(command)  # before its time is over
        return command

    def _act(self, command: _Command) -> None:
        """Do what a command is to see, once it waits."""
        if command.acted:
            return
        command.acted = True
        until(
            lambda: command.has_ended() or self.is_ready(command), f"{command.line.command} waits"
        )
        if not command.has_ended():
            command.done = _shell(command.line.do, command.directory)

    def _run(
        self, commands: Sequence[_Command], expected: Sequence[Result | None]
    ) -> Iterator[Result]:
        for command in commands:
            self._act(command)
        for command, result in zip(commands, expected, strict=True):
            self.let_it_print(command, result)
            if not command.has_ended(_PATIENCE if command.line.awaited else 0.0):
                os.kill(command.pid, command.line.signal)
        for command in commands:
            assert command.has_ended(_PATIENCE), f"{command.line.command} does not end"
            result = normal(*command.result, self.status(command.pid))
            yield result._replace(done=command.done)

    def start(self, line: Line, directory: Path, files: Sequence[Path]) -> int:
        raise NotImplementedError

    def status(self, pid: int) -> int:
        raise NotImplementedError

    def is_ready(self, command: _Command) -> bool:
        """Return whether a command's watches stand."""
        raise NotImplementedError

    def let_it_print(self, command: _Command, expected: Result | None) -> None:
        """Wait until a command has printed what it has to, or has ended."""
        raise NotImplementedError


class Native(_World):
    """inotify-tools, in an ordinary directory."""

    def __init__(self, top: Path, files: Path) -> None:
        super().__init__(top, files)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, line: Line, directory: Path, files: Sequence[Path]) -> int:
        program, *arguments = line.words
        with open(files[0]) as given, open(files[1], "ab") as out, open(files[2], "ab") as err:
            process = subprocess.Popen(
                [INOTIFY_TOOLS[program.decode()], *arguments],
                cwd=directory,
                stdin=given,
                stdout=out,
                stderr=err,
            )
        self._processes[process.pid] = process
        return process.pid

    def run(self, lines: Sequence[Line], expected: Sequence[Result] = ()) -> list[Result]:
        results = super().run(lines, expected)
        for number, line in enumerate(lines):

            def has_run(number: int = number, line: Line = line) -> bool:
                """Return whether there was an instance: others of this user may have all."""
                if b"Too many open files" in results[number].said:
                    (results[number],) = super(Native, self).run([line])
                return b"Too many open files" not in results[number].said

            until(has_run, "there are inotify instances")
        return results

    def status(self, pid: int) -> int:
        return self._processes.pop(pid).wait()

    def is_ready(self, command: _Command) -> bool:
        return watches_of(command.pid) == command.line.watches and sleeps(command.pid)

    def let_it_print(self, command: _Command, expected: Result | None) -> None:
        until(
            lambda: command.has_ended() or sleeps(command.pid), f"{command.line.command} is still"
        )


class Ours(_World):
    """``fusenotify``, in a mount."""

    def __init__(self, mounted: Mounted, client: Client, files: Path, forks: Forks) -> None:
        super().__init__(Path(mounted.mountpoint), files)
        self._client = client
        self._forks = forks

    def start(self, line: Line, directory: Path, files: Sequence[Path]) -> int:
        return self._forks.start(line.words, directory, files)

    def status(self, pid: int) -> int:
        return self._forks.wait(pid)

    def is_ready(self, command: _Command) -> bool:
        has_watches = self._devices(command.pid)[0] == command.line.ours
        is_watch = command.line.words[0] == b"watch"
        return has_watches and (not is_watch or b"Finished" in command.result[1])

    def let_it_print(self, command: _Command, expected: Result | None) -> None:
        self._client.sync()
        if expected is not None and command.line.words[0] == b"wait":  # the other prints at its end
            printed = expected.printed
            with suppress(AssertionError):  # what it does will be compared
                until(
                    lambda: command.has_ended() or normal(*command.result, 0).printed == printed,
                    "it prints",
                    seconds=5.0,
                )
        until(
            lambda: (
                command.has_ended() or (not self._devices(command.pid)[1] and sleeps(command.pid))
            ),
            f"{command.line.command} is still",
        )

    def _devices(self, pid: int) -> tuple[int, int]:
        """Return how many watches a process has, and how many events are queued for it."""
        devices = [
            device
            for client in self._client.status().clients
            if client.pid == pid
            for device in client.devices
        ]
        return sum(each.watches for each in devices), sum(each.queued for each in devices)


def watches_of(pid: int) -> int:
    """Return how many inotify watches a process has."""
    watches = 0
    with suppress(FileNotFoundError):  # it ended
        for name in os.listdir(f"/proc/{pid}/fdinfo"):
            with suppress(FileNotFoundError):  # closed by now
                watches += Path(f"/proc/{pid}/fdinfo/{name}").read_text().count("inotify wd:")
    return watches


def sleeps(pid: int) -> bool:
    """Return whether a process has done what there was to do, and waits."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    except FileNotFoundError:
        return False


def _shell(text: str, directory: Path) -> int:
    words: list[str | bytes] = ["sh", "-euc", os.fsencode(text)]
    return subprocess.run(words, cwd=directory, check=False).returncode


def normal(printed: bytes, said: bytes, status: int) -> Result:
    """Return a result with the program's name and cookies as they are everywhere.

    Cookies are in angle brackets.
    """
    for name, program in INOTIFY_TOOLS.items():
        said = said.replace(b"fusenotify %s: " % name.encode(), b"%s: " % program.encode())
    cookies: dict[bytes, bytes] = {b"0": b"0"}

    def renumbered(match: re.Match[bytes]) -> bytes:
        return b"<%s>" % cookies.setdefault(match[1], b"cookie %d" % len(cookies))

    return Result(re.sub(rb"<([0-9a-f]+)>", renumbered, printed), said, status)
