# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal that ``fusenotify top`` draws on: its alternate screen, keys, size and signals.

Invariants
    However it ends (by a key, a signal, an exception), the terminal is restored, and also
        while the process is suspended (Ctrl-Z).
    Only drawing waits for the terminal to take output, and a signal ends that.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import NamedTuple, Self

# The alternate screen, without a cursor and without wrapping of lines.
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
# How many seconds to try to restore the screen of a terminal that takes no output.
_LEAVE_SECONDS = 0.5

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALS = (*_END_SIGNALS, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Size(NamedTuple):
    """Columns and lines."""

    width: int
    height: int


class Ended(BaseException):
    """A signal, args[0], asked for the end."""


class Terminal:
    """Standard output, which is a terminal, and the keys if standard input is a terminal, too.

    It is used in a with block.  Signals that ask for the end make wait() and draw() raise
    Ended.
    """

    def __init__(self) -> None:
        self._out = _opened(sys.stdout.fileno())
        stdin = sys.stdin
        self._keys = stdin.fileno() if stdin is not None and stdin.isatty() else None
        self._before: list[object] | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._handlers: dict[int, object] = {}
        self._ended_by: int | None = None
        self._suspended = False
        self._shown: Sequence[str] = ()

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._came)
        self._take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        os.close(self._wake)
        os.close(self._out)

    @property
    def size(self) -> Size:
        """The present size."""
        try:
            return Size(*os.get_terminal_size(self._out))
        except OSError:
            return Size(80, 24)  # the terminal is gone, and SIGHUP will come

    def wake(self) -> None:
        """End the present or the next wait(); any thread and any signal handler may call this."""
        with contextlib.suppress(OSError):  # it was closed
            os.eventfd_write(self._wake, 1)

    def wait(self, seconds: float) -> bytes | None:
        """Wait for keys, and return them; None if the time passed, b"" for another reason.

        Other reasons are wake(), a changed size of the terminal, and a suspension.

        Raises Ended.
        """
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._keys is not None:
            poll.register(self._keys, select.POLLIN)
        self._check()
        ready = [descriptor for descriptor, _ in poll.poll(seconds * 1000)]
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        self._check()
        if self._suspended:
            self._suspend()
            return b""
        if self._keys in ready:
            try:
                keys = os.read(self._keys, 1024)
            except OSError:
                keys = b""
            if not keys:
                self._keys = None  # standard input is gone
            return keys
        return b"" if ready else None

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines of text, as many and as wide as those of the terminal.

        If their number has not changed, only lines that differ from the last ones are written.

        Raises Ended.
        """
        before = self._shown if len(self._shown) == len(lines) else [None] * len(lines)
        self._shown = ()  # in case the writing is interrupted
        text = "".join(
            f"\x1b[{number};1H{line}"
            for number, (line, shown) in enumerate(zip(lines, before, strict=True), 1)
            if line != shown
        )
        self._write(text.encode(sys.stdout.encoding, "replace"))
        self._shown = lines

    def forget(self) -> None:
        """Draw all lines the next time, since the terminal may show something else."""
        self._shown = ()

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSANOW)
        self._shown = ()
        self._write(_ENTER)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            for action in (termios.TCOOFF, termios.TCOON):  # resumes output after Ctrl-S
                termios.tcflow(self._out, action)
            self._write(_LEAVE, time.monotonic() + _LEAVE_SECONDS)
        if self._keys is not None and self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSANOW, self._before)  # type: ignore[arg-type]

    def _suspend(self) -> None:
        """Stop the process, as Ctrl-Z does, with the terminal restored during that time."""
        self._suspended = False
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _write(self, data: bytes, deadline: float | None = None) -> None:
        """Write data until a deadline or, without a deadline, until a signal.

        Raises Ended.
        """
        poll = select.poll()
        poll.register(self._out, select.POLLOUT)
        rest = memoryview(data)
        while rest:
            if deadline is None:
                self._check()
            elif time.monotonic() > deadline:
                return
            try:
                rest = rest[os.write(self._out, rest) :]
            except BlockingIOError:
                poll.poll(100)
            except OSError:  # the terminal is gone, and SIGHUP will come
                return

    def _check(self) -> None:
        if self._ended_by is not None:
            raise Ended(self._ended_by)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if number in _END_SIGNALS:
            self._ended_by = number
        elif number == signal.SIGTSTP:
            self._suspended = True
        self.wake()


def _opened(descriptor: int) -> int:
    """Return a non-blocking descriptor of a terminal, for which the caller's still blocks."""
    try:
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(os.ttyname(descriptor), flags)
    except OSError:  # the terminal belongs to another mount namespace
        return os.dup(descriptor)
