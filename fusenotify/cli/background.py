# SPDX-License-Identifier: GPL-2.0-or-later
"""The output and messages of ``fusenotify wait``: -o, -s and -d.

cli.wait uses it.  With -d, a child process goes on in the background.  The process
that the user started waits until the watches are established, and ends with status
0, or with an error message and status 1.
"""

from __future__ import annotations

import os
import syslog
from typing import NoReturn

from fusenotify.cli.inotify_tools import Refused, complain, put

_IDENTITY = "fusenotify"
_READY = b"\0"


def print_to(path: bytes) -> None:
    """Append everything that is printed to a file.

    Raises Refused.
    """
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        raise Refused(b"Failed to open output file " + path) from None
    os.dup2(opened, 1)
    os.close(opened)


class Speaker:
    """Writes messages to stderr, or to the system's log."""

    def __init__(self, *, to_log: bool) -> None:
        self._to_log = to_log
        if to_log:
            options = syslog.LOG_CONS | syslog.LOG_PID | syslog.LOG_NDELAY
            syslog.openlog(_IDENTITY, options, syslog.LOG_DAEMON)

    def say(self, text: bytes) -> None:
        """Write a message of one or more lines."""
        if not self._to_log:
            complain(text)
            return
        for line in text.split(b"\n"):
            syslog.syslog(syslog.LOG_INFO, line.decode(errors="backslashreplace"))


class Background:
    """The program in the background; its parent waits for ready() or failed()."""

    def __init__(self) -> None:
        """Fork and return in the child; the parent ends here.

        Raises OSError.
        """
        answer, self._answer = os.pipe()
        if os.fork():
            os.close(self._answer)
            _end_as_told(answer)
        os.close(answer)
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 2)

    def ready(self) -> None:
        """Let the parent end successfully, and leave the directory so that it can be unmounted."""
        os.chdir("/")
        put(self._answer, _READY)
        os.close(self._answer)

    def failed(self, text: bytes) -> None:
        """Let the parent print an error message, and end."""
        put(self._answer, text)
        os.close(self._answer)


def _end_as_told(answer: int) -> NoReturn:
    """End as the child says; it says nothing if a signal ended it."""
    with open(answer, "rb") as told:
        text = told.read()
    if text == _READY:
        os._exit(0)
    if text:
        complain(text)
    os._exit(1)
