# SPDX-License-Identifier: GPL-2.0-or-later
"""How a daemon says what goes wrong: without waiting for its own mount, or for a reader.

cli.mount calls begin() in the process that will serve, before it mounts.  What
the serving thread would open by path may lie in the mount that it serves, and
then it would wait for itself.

Invariants
    The serving thread opens nothing for a message: tracebacks and warnings
        name files and lines, and show no sources.
    Another thread writes the messages.  Where it gets stuck, those beyond
        MOST are dropped.
"""

from __future__ import annotations

import atexit
import contextlib
import linecache
import logging
import os
import queue
import sys
import syslog
import threading
import tracemalloc  # noqa: F401 - the first warning would import it
from typing import Any

# How many messages may wait to be written.
MOST = 1000
# How long the end of the process waits for the last ones.
_FLUSH_SECONDS = 2.0

log = logging.getLogger(__name__)


class Messages(logging.Handler):
    """Writes the messages of this process: to stderr, behind leave_the_terminal() to syslog."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("fusenotify: %(message)s"))
        self._say = _to_stderr
        # This kind may be put to also where the garbage collector interrupts a put.
        self._waiting: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._sink = os.open(os.devnull, os.O_RDWR)
        self._writer: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() < MOST:
            self._waiting.put(self.format(record))
        if self._writer is None:  # not before: what forks at the start has one thread
            self._writer = threading.Thread(target=self._write, daemon=True)
            self._writer.start()

    def flush(self) -> None:
        """Wait until what was said before is written, two seconds at most."""
        if self._writer is None:
            return
        written = threading.Event()
        self._waiting.put(written)
        written.wait(_FLUSH_SECONDS)

    def leave_the_terminal(self) -> None:
        """Let go of the caller's stderr."""
        self.flush()
        self._say = _to_syslog
        os.dup2(self._sink, sys.stderr.fileno())

    def _write(self) -> None:
        while True:
            message = self._waiting.get()
            if isinstance(message, str):
                with contextlib.suppress(OSError):  # nobody reads it
                    self._say(message)
            else:
                message.set()


def begin() -> Messages:
    """Send all messages of this process, uncaught exceptions too, on their way."""
    messages = Messages()
    logging.basicConfig(handlers=[messages], force=True)
    atexit.register(messages.flush)
    for name, function in (("checkcache", _check_nothing), ("updatecache", _read_nothing)):
        setattr(linecache, name, function)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = threading.excepthook = _ignored
    return messages


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _to_syslog(text: str) -> None:
    syslog.syslog(syslog.LOG_ERR, text)


def _uncaught(kind: Any, error: Any, trace: Any) -> None:
    log.critical("the daemon failed", exc_info=(kind, error, trace))


def _ignored(happened: sys.UnraisableHookArgs | threading.ExceptHookArgs) -> None:
    """Report an exception in a thread, or where none can be raised."""
    where = getattr(happened, "object", None) or getattr(happened, "thread", None)
    error = (happened.exc_type, happened.exc_value, happened.exc_traceback)
    log.error("ignored in %r", where, exc_info=error)  # type: ignore[arg-type]


def _check_nothing(filename: str | None = None) -> None:
    """Stand in for linecache.checkcache(), which looks whether sources have changed."""


def _read_nothing(filename: str, module_globals: object = None) -> list[str]:  # noqa: ARG001
    """Stand in for linecache.updatecache(), which reads sources."""
    return []
