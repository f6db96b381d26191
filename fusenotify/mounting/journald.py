# SPDX-License-Identifier: GPL-2.0-or-later
"""The priority of lines on stderr, for systemd's journal.  See sd-daemon(3)."""

from __future__ import annotations

import logging
import os
import sys
import syslog
from functools import cache

ERROR = logging.ERROR


def priority(level: int) -> int:
    """Return the syslog(3) priority of a level of logging."""
    if level >= logging.CRITICAL:
        return syslog.LOG_CRIT
    if level >= logging.ERROR:
        return syslog.LOG_ERR
    if level >= logging.WARNING:
        return syslog.LOG_WARNING
    return syslog.LOG_INFO if level >= logging.INFO else syslog.LOG_DEBUG


def for_stderr(level: int, text: str) -> str:
    """Return text for stderr; if stderr is the journal, each line begins with its priority."""
    if not _is_the_journal():
        return text
    return "\n".join(f"<{priority(level)}>{line}" for line in text.split("\n"))


@cache
def _is_the_journal() -> bool:
    """Return whether stderr is the stream that JOURNAL_STREAM names.  See systemd.exec(5)."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named or sys.stderr is None:
        return False
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{stream.st_dev}:{stream.st_ino}"
