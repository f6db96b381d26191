# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that writes one kind of records, and the side that hears what was acknowledged.

    python -m tests.fs.crash.writer KIND DIRECTORY

It prints each acknowledged number, and at its end, which an error brings, what
that was.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from tests.cli.command import environment
from tests.fs.crash.kinds import KINDS


class Writer:
    """A running writer; acknowledged is the number up to which its records are safe."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.acknowledged = 0
        self.begun = threading.Event()
        self._last_word = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind, directory],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hearing = threading.Thread(target=self._hear)
        self._hearing.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line[:-1].isdecimal():
                    self.acknowledged = int(line)
                    self.begun.set()
                else:
                    self._last_word = line.strip()
        self.begun.set()  # it will not any more

    def end(self, seconds: float) -> str | None:
        """Wait for its end and return what ended it, or None where it had to be killed."""
        self._hearing.join(seconds)
        by_itself = not self._hearing.is_alive()
        if not by_itself:
            self._process.kill()
        self._hearing.join()
        status = self._process.wait()
        if not by_itself:
            return None
        return signal.Signals(-status).name if status < 0 else self._last_word or f"status {status}"


def main(kind: str, directory: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # SIGBUS is an end like others
    try:
        os.chdir(directory)
        for sequence in KINDS[kind].write():
            print(sequence, flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno or 0], flush=True)
    except sqlite3.Error as error:
        print(error.sqlite_errorname, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
