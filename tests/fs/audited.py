# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that tells what its serving thread reaches by path once it is mounted.

    python audited.py REPORT_FD mount -f ...

SIGUSR1 begins it; each path, import or program is a line on REPORT_FD.  Setting
times through the mount meets a bug, which is reported with a traceback and a warning.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from typing import Any

from fusenotify.cli import main
from fusenotify.fs import attribute_requests

# Events whose first argument is a path.
_BY_PATH = frozenset(
    [
        *("open", "os.chdir", "os.chmod", "os.chown", "os.getxattr", "os.link", "os.listdir"),
        *("os.listxattr", "os.mkdir", "os.remove", "os.removexattr", "os.rename", "os.rmdir"),
        *("os.scandir", "os.setxattr", "os.symlink", "os.truncate", "os.utime"),
    ]
)
_NEVER = frozenset(
    ["import", "os.exec", "os.posix_spawn", "os.system", "socket.connect", "subprocess.Popen"]
)


class Audit:
    """The hook; reports what the main thread does while armed."""

    def __init__(self, report: int) -> None:
        self.armed = False
        self._report = report
        self._serving = threading.get_ident()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed or threading.get_ident() != self._serving:
            return
        if event in _NEVER or (event in _BY_PATH and not _is_harmless(args[0])):
            os.write(self._report, f"{event} {args[:1]}\n".encode())


def _is_harmless(path: Any) -> bool:
    """Return whether a path is a descriptor, relative to one, or in /proc."""
    text = os.fspath(path) if not isinstance(path, int) else ""
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    return not text.startswith("/") or text.startswith("/proc/")


def _bug(*_: object) -> None:
    warnings.warn("about to fail", stacklevel=1)
    raise AssertionError("a bug")


def run() -> int:
    audit = Audit(int(sys.argv[1]))
    signal.signal(signal.SIGUSR1, lambda *_: setattr(audit, "armed", True))
    setattr(attribute_requests, "utimens", _bug)  # noqa: B010
    sys.addaudithook(audit)
    try:
        return main(sys.argv[2:])
    finally:
        audit.armed = False


if __name__ == "__main__":
    sys.exit(run())
