# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs many ``fusenotify`` commands at the price of one interpreter.

A process imports the command line once and forks for each command, which runs
as ``python -m fusenotify`` does.  Its requests and answers are lines of JSON:
{"start": {...}} is answered by a process id, {"wait": id} by its exit status.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.cli.command import environment


class Forks:
    """Processes of the command; those that run end with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forks"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process, self._process.stdin:
            pass

    def start(self, arguments: Sequence[bytes], cwd: Path, files: Sequence[Path]) -> int:
        """Run the command, whose standard descriptors are three files, and return its id."""
        return self._ask(
            "start",
            {
                "arguments": [os.fsdecode(argument) for argument in arguments],
                "cwd": str(cwd),
                "files": [str(file) for file in files],
            },
        )

    def wait(self, pid: int) -> int:
        """Wait until a process ends, and return its status, as Popen does."""
        return self._ask("wait", pid)

    def _ask(self, what: str, argument: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({what: argument}), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def _serve(requests: IO[str]) -> None:
    # So that each child has them already.
    from fusenotify.cli import main, wait, watch  # noqa: F401

    for line in requests:
        request: dict[str, Any] = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        try:
            start = request["start"]
            for descriptor, file in enumerate(start["files"]):
                flags = os.O_RDWR | os.O_APPEND if descriptor else os.O_RDONLY
                os.dup2(os.open(file, flags), descriptor)
            os.chdir(start["cwd"])
            os._exit(main(start["arguments"]))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)  # what main() did not expect


if __name__ == "__main__":
    _serve(sys.stdin)
