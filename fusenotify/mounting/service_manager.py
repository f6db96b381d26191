# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling systemd how it goes: ready, what is served, about to end.  See sd_notify(3).

cli.mount makes one in a daemon that stays in front, before it mounts; a service of Type=notify
is started when the mount answers.  A daemon in the background tells nobody: who started it need
not be a service, and its service has started when the command ends.

It is a datagram of some lines to the socket that NOTIFY_SOCKET names.  libsystemd and its bindings
would be another thing to compile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

_VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """Who started this process and asked to be told; nobody, where NOTIFY_SOCKET is not set.

    Programs that this process runs do not see the variable any more.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._ends = False
        address = os.fsencode(os.environ.pop(_VARIABLE, ""))
        if not address.startswith((b"/", b"@")):
            return
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        with contextlib.ExitStack() as stack:
            channel = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            # Now: the mount may cover what the name leads to.
            with contextlib.suppress(OSError):
                channel.connect(address)
                self._socket = channel
                stack.pop_all()

    def ready(self, source: str, mountpoint: str, clients: str) -> None:
        """Say that the mount answers, and where clients connect."""
        status = f"{source} on {mountpoint}; clients connect at {clients}"
        self._tell("READY=1", f"MAINPID={os.getpid()}", f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """Say that the end has begun; once."""
        if not self._ends:
            self._ends = True
            self._tell("STOPPING=1", "STATUS=unmounting")

    def _tell(self, *lines: str) -> None:
        if self._socket is not None:
            message = "\n".join(lines).encode()
            # In a thread, because a busy service manager makes the sender wait.
            threading.Thread(target=_send, args=(self._socket, message), daemon=True).start()


def _send(channel: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        channel.send(message)


def _line(text: str) -> str:
    """Return text as one line of UTF-8, whatever names are in it."""
    shown = os.fsencode(text).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
