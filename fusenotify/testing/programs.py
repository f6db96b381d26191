# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs in a test, under ``fusenotify run``: their output, calls and events.

The pytest plugin starts them (fusenotify_run).  They are unmodified programs in processes of
their own; only their inotify calls are answered by us.

Invariant
    A program has ended when end() returns, if necessary by SIGKILL.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from fusenotify.mounting.spawn import environment

_END_SECONDS = 10.0
_CANNOT_RUN = 125
# -P: nothing is imported from the caller's directory.
_RUN = [sys.executable, "-P", "-m", "fusenotify", "run"]


@functools.cache
def why_not_supervised() -> str:
    """Return why ``fusenotify run`` is impossible here, or "".  Found out once per process."""
    probe = subprocess.run(
        [*_RUN, "--", "true"], env=environment(), capture_output=True, text=True, check=False
    )
    if probe.returncode == _CANNOT_RUN:
        return probe.stderr.strip().removeprefix("fusenotify run: ")
    assert probe.returncode == 0, probe.stderr
    return ""


class Program:
    """A process and its output, in which stdout and stderr are merged.

    lines are the lines that it printed so far, without newlines; process is its Popen.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start the program; env is added to our environment.

        Raises OSError.
        """
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [os.fspath(word) for word in command],
            env=environment() | dict(env or {}),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout
        self._rest = b""
        self._heard = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def wait_for(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Wait for the next line in which a regular expression is found; return the match.

        Lines up to that one are not searched again.

        Raises AssertionError if the program ended, or if no such line came in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            while self._heard < len(self.lines):
                self._heard += 1
                if found := re.search(pattern, self.lines[self._heard - 1]):
                    return found
            if not self._receive(deadline - time.monotonic()):
                why = f"in {seconds:g} s" if time.monotonic() >= deadline else "before it ended"
                printed = "\n".join(self.lines) or "nothing"
                raise AssertionError(f"it did not print {pattern!r} {why}; it printed:\n{printed}")

    def settle(self, seconds: float = 0.5) -> None:
        """Wait until the program has printed nothing for some seconds."""
        while self._receive(seconds):
            pass

    def wait(self, seconds: float = 20.0) -> int:
        """Wait for the program's end; return its exit status, negative if a signal killed it.

        Raises subprocess.TimeoutExpired.
        """
        deadline = time.monotonic() + seconds
        while self._receive(deadline - time.monotonic()):
            pass
        return self.process.wait(max(0.0, deadline - time.monotonic()))

    def end(self) -> int:
        """End the program by SIGTERM, after ten seconds by SIGKILL; return its exit status."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                self.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.settle(0.1)
        self._out.close()
        return self.process.wait()

    def _receive(self, seconds: float) -> bool:
        """Read more output; return False if none came in time, or if it has ended."""
        if self._out.closed or not select.select([self._out], [], [], max(0.0, seconds))[0]:
            return False
        data = os.read(self._out.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            lines, self._rest = [self._rest], b""
        self.lines += [line.decode(errors="replace") for line in lines]
        return bool(data)


class SupervisedProgram(Program):
    """A program whose inotify is served by the mounts that it watches."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        max_queued_events: int | None = None,
        max_user_watches: int | None = None,
        max_user_instances: int | None = None,
        semantics: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start the program under ``fusenotify run`` with these options.

        Raises OSError.
        """
        number, self._record = tempfile.mkstemp(prefix="fusenotify-run-")
        os.close(number)
        options = {
            "--record": self._record,
            "--max-queued-events": max_queued_events,
            "--max-user-watches": max_user_watches,
            "--max-user-instances": max_user_instances,
            "--semantics": semantics,
        }
        given = [f"{name}={value}" for name, value in options.items() if value is not None]
        run = [*_RUN, *given, "--", *command]
        try:
            super().__init__(run, env=env, cwd=cwd)
        except BaseException:
            os.unlink(self._record)
            raise

    def record(self) -> list[dict[str, Any]]:
        """Return the program's calls and events so far: the lines of ``run --record``."""
        with open(self._record, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.endswith("\n")]

    def events(self) -> list[dict[str, Any]]:
        """Return the events that the program could read so far: wd, mask, cookie and name."""
        return [event for entry in self.record() for event in entry.get("events", ())]

    def overflowed(self) -> bool:
        """Return whether the program could read an IN_Q_OVERFLOW."""
        return any(event["mask"] == "IN_Q_OVERFLOW" for event in self.events())

    def end(self) -> int:
        """End the program, as Program.end() does; then record() fails."""
        try:
            return super().end()
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._record)
