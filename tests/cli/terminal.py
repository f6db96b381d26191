# SPDX-License-Identifier: GPL-2.0-or-later
"""A program on a pseudo-terminal, and what is on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pyte

from tests.cli.command import environment

# What turns the other screen on and off; pyte has one screen only.
OTHER_SCREEN, FIRST_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


class OnTerminal:
    """A program with a terminal of its own, on which it is in front.

    raw is all that it wrote.  It is killed at the end of the block, where it has not ended.
    """

    def __init__(
        self, command: Sequence[str], *, width: int = 80, height: int = 24, **variables: str
    ) -> None:
        self.raw = b""
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        self._slave = os.dup(slave)
        self._set_size(width, height)
        self.before = termios.tcgetattr(slave)
        known = {**environment(), "TERM": "xterm-256color", **variables}
        self.process = subprocess.Popen(
            [*command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={name: value for name, value in known.items() if value},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        os.set_blocking(self.master, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.master)
        with contextlib.suppress(OSError):
            os.close(self._slave)

    @property
    def text(self) -> str:
        """What is on the screen, without the blanks at its right."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def modes(self) -> list[Any]:
        """Return what tcgetattr(3) says of the terminal."""
        return termios.tcgetattr(self._slave)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def resize(self, width: int, height: int) -> None:
        self._set_size(width, height)
        self.screen.resize(height, width)
        self.screen.reset()

    def until(self, seen: Callable[[str], bool], what: str, seconds: float = 20.0) -> str:
        """Read until the screen is as wanted, and return its text; fail where it never is."""
        deadline = time.monotonic() + seconds
        while not seen(self.text):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{self.text}"
            self._read(0.05)
        return self.text

    def shows(self, words: str) -> str:
        """Read until words are on the screen, and return its text."""
        return self.until(lambda text: words in text, f"it shows {words!r}")

    def status(self) -> int:
        """Read to the end, and return the exit status, negative for a signal's number."""
        deadline = time.monotonic() + 20.0
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end\n{self.text}"
            self._read(0.02)
        self._read(0.0)
        return self.process.returncode

    def hang_up(self) -> None:
        """Close the terminal, as a connection that breaks does."""
        os.close(self._slave)
        os.close(self.master)

    def _read(self, seconds: float) -> None:
        if not select.select([self.master], [], [], seconds)[0]:
            return
        with contextlib.suppress(OSError):
            data = os.read(self.master, 65536)
            self.raw += data
            self._stream.feed(data)

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def _take_terminal() -> None:
    """Make standard input the controlling terminal, for Ctrl-C and SIGHUP."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
