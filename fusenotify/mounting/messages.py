# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's messages, written without waiting for its own mount or for a reader.

cli.mount calls begin() in the process that will serve, before it mounts.  A path
that the serving thread opens may lie in the mount that it serves; it would then
wait for itself.

Invariants
    The serving thread opens no file for a message: tracebacks and warnings name
        files and lines, but do not show the source code.
    Another thread writes the messages.  If it gets stuck, messages beyond MOST are dropped;
        so are messages for which the disk has no room.  Their number is logged when there is
        room again.
    A log file is opened before the mount is made, and not again by its path, which may then
        lead into the mount.
"""

from __future__ import annotations

import atexit
import errno
import linecache
import logging
import os
import queue
import sys
import syslog
import threading
import tracemalloc  # noqa: F401 - the first warning would import it
from typing import Any

from fusenotify.mounting import journald

_FILE_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
_FILE_FORMAT.default_msec_format = "%s.%03d"
_DROPPED = "%d messages before this one were not written"
# How many messages may wait to be written.
MOST = 1000
# How many seconds the end of the process waits for the last messages.
_FLUSH_SECONDS = 2.0

log = logging.getLogger(__name__)


class Messages(logging.Handler):
    """Writes the messages of this process: to a file, or to stderr, and later to syslog.

    file is a descriptor of the file, or None; then leave_the_terminal() changes from stderr to
    syslog.
    """

    def __init__(self, file: int | None) -> None:
        super().__init__()
        self._file = file
        self._say = _to_stderr
        if file is not None:
            self._say = self._to_file
            self.setFormatter(_FILE_FORMAT)
        # A SimpleQueue allows a put that interrupts another one, as by the garbage collector.
        self._waiting: queue.SimpleQueue[tuple[int, str] | threading.Event] = queue.SimpleQueue()
        self._sink = os.open(os.devnull, os.O_RDWR)
        self._writer: threading.Thread | None = None
        self._dropped = self._failed = self._told = 0
        self._torn = False  # whether the end of the file is half a line

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() < MOST:
            self._waiting.put((record.levelno, self.format(record)))
        else:
            self._dropped += 1
        if self._writer is None:  # not earlier: the process may fork, with one thread, at first
            self._writer = threading.Thread(target=self._write, daemon=True)
            self._writer.start()

    def flush(self) -> None:
        """Wait until all earlier messages are written, at most two seconds."""
        if self._writer is None:
            return
        written = threading.Event()
        self._waiting.put(written)
        written.wait(_FLUSH_SECONDS)

    def leave_the_terminal(self) -> None:
        """Stop using the caller's stderr."""
        self.flush()
        if self._file is None:
            self._say = _to_syslog
        os.dup2(self._sink, sys.stderr.fileno())

    def _write(self) -> None:
        while True:
            message = self._waiting.get()
            if isinstance(message, threading.Event):
                message.set()
                continue
            try:
                self._tell_dropped()
                self._say(*message)
            except OSError:  # there is no reader, or the disk is full
                self._failed += 1

    def _tell_dropped(self) -> None:
        """Log how many messages were dropped, once there is room again."""
        dropped = self._dropped + self._failed - self._told
        if dropped:
            record = log.makeRecord(log.name, logging.WARNING, "", 0, _DROPPED, (dropped,), None)
            self._say(record.levelno, self.format(record))
            self._told += dropped

    def _to_file(self, level: int, text: str) -> None:
        assert self._file is not None
        line = b"\n" * self._torn + f"{text}\n".encode(errors="backslashreplace")
        self._torn = os.write(self._file, line) < len(line)


def begin(level: str, file: str | None) -> Messages:
    """Handle all messages of this process from now on, including uncaught exceptions.

    level is the name of the lowest level of logging that is written.  file is the path of the
    log file, or None; if it does not exist it is made, with permissions for its owner only.

    Raises OSError if the file cannot be opened.
    """
    messages = Messages(None if file is None else _opened(file))
    if file is None:
        messages.setFormatter(logging.Formatter("fusenotify: %(message)s"))
    logging.basicConfig(handlers=[messages], force=True)
    logging.getLogger("fusenotify").setLevel(level)
    logging.getLogger("pyfuse3").addFilter(_tells_of_a_fault)
    atexit.register(messages.flush)
    for name, function in (("checkcache", _check_nothing), ("updatecache", _read_nothing)):
        setattr(linecache, name, function)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = threading.excepthook = _ignored
    return messages


def _tells_of_a_fault(record: logging.LogRecord) -> bool:
    """Return whether a message of pyfuse3 is one for the user.

    The kernel refuses an answer that nobody waits for with ENOENT, as when the mount is unmounted
    before a RELEASE is answered.  libfuse does not report that either.
    """
    return not (
        "fuse_reply_* failed" in str(record.msg) and record.args == (os.strerror(errno.ENOENT),)
    )


def _opened(file: str) -> int:
    """Return a descriptor that appends to a file.  A fifo without a reader gives ENXIO."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(file, flags, 0o600)


def _to_stderr(level: int, text: str) -> None:
    sys.stderr.write(f"{journald.for_stderr(level, text)}\n")
    sys.stderr.flush()


def _to_syslog(level: int, text: str) -> None:
    syslog.syslog(journald.priority(level), text)


def _uncaught(kind: Any, error: Any, trace: Any) -> None:
    log.critical("the daemon failed", exc_info=(kind, error, trace))


def _ignored(happened: sys.UnraisableHookArgs | threading.ExceptHookArgs) -> None:
    """Report an exception in a thread, or one that cannot be raised."""
    where = getattr(happened, "object", None) or getattr(happened, "thread", None)
    error = (happened.exc_type, happened.exc_value, happened.exc_traceback)
    log.error("ignored in %r", where, exc_info=error)  # type: ignore[arg-type]


def _check_nothing(filename: str | None = None) -> None:
    """Replace linecache.checkcache(), which looks whether source files have changed."""


def _read_nothing(filename: str, module_globals: object = None) -> list[str]:  # noqa: ARG001
    """Replace linecache.updatecache(), which reads source files."""
    return []
