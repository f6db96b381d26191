# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal that ``fusenotify top`` draws on: its other screen, keys, size and signals.

Invariants
    However it ends (a key, a signal, an exception), the terminal is as it was before; also
        while the process is suspended (Ctrl-Z).
    Nothing here waits for the terminal to take output but drawing, which a signal ends.
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

# The other screen, without a cursor, and lines that are cut off at the end.
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
# How long a terminal that takes nothing is asked to show the old screen.
_LEAVE_SECONDS = 0.5

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALS = (*_END_SIGNALS, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Size(NamedTuple):
    """Columns and lines."""

    width: int
    height: int


class Ended(BaseException):
    """A signal asked for the end; args[0] is which."""


class Terminal:
    """Standard output, which is a terminal, and its keys where standard input is one, too.

    Within ``with`` it is ours.  Signals that ask for the end raise Ended in wait() and
    draw().
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
        """How large it is now."""
        try:
            return Size(*os.get_terminal_size(self._out))
        except OSError:
            return Size(80, 24)  # it is gone, and SIGHUP comes

    def wake(self) -> None:
        """End a wait(), or else the next one; any thread and any signal handler may call it."""
        with contextlib.suppress(OSError):  # it was closed meanwhile
            os.eventfd_write(self._wake, 1)

    def wait(self, seconds: float) -> bytes | None:
        """Wait for keys, and return them; None where the time passed, b"" where something else is.

        That is wake(), another size of the terminal, or that we were suspended.

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
                self._keys = None  # it is gone
            return keys
        return b"" if ready else None

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines of text, one for each of the terminal's, as wide as it is.

        Only what differs from the lines before is written, where they are as many.

        Raises Ended.
        """
        before = self._shown if len(self._shown) == len(lines) else [None] * len(lines)
        self._shown = ()  # where it is broken off
        text = "".join(
            f"\x1b[{number};1H{line}"
            for number, (line, shown) in enumerate(zip(lines, before, strict=True), 1)
            if line != shown
        )
        self._write(text.encode(sys.stdout.encoding, "replace"))
        self._shown = lines

    def forget(self) -> None:
        """Draw all lines the next time, as where something else has drawn on the terminal."""
        self._shown = ()

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSANOW)
        self._shown = ()
        self._write(_ENTER)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            for action in (termios.TCOOFF, termios.TCOON):  # goes on, also behind Ctrl-S
                termios.tcflow(self._out, action)
            self._write(_LEAVE, time.monotonic() + _LEAVE_SECONDS)
        if self._keys is not None and self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSANOW, self._before)  # type: ignore[arg-type]

    def _suspend(self) -> None:
        """Stop, as Ctrl-Z does, with the terminal given back meanwhile."""
        self._suspended = False
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _write(self, data: bytes, deadline: float | None = None) -> None:
        """Write all that the terminal takes, until a deadline or, without one, a signal.

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
            except OSError:  # it is gone, and SIGHUP says so
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
    """Return a descriptor of a terminal that does not block, which the caller's does on."""
    try:
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(os.ttyname(descriptor), flags)
    except OSError:  # it is another mount namespace's
        return os.dup(descriptor)
