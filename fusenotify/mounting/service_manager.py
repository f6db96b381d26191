# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages to systemd: the mount is ready, what it serves, it is about to end.  See sd_notify(3).

cli.mount makes a ServiceManager in a daemon in the foreground, before it mounts; a service of
Type=notify counts as started when the mount answers.  A daemon in the background sends no
messages: its caller may not be a service, and if it is one, it has started when the command ends.

A message is a datagram of some lines to the socket that NOTIFY_SOCKET names.  libsystemd and its
bindings would be another dependency to compile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

_VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """The service manager that started this process; without NOTIFY_SOCKET, all calls do nothing.

    The variable is removed from the environment, so programs that this process runs do not
    see it.
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
            # It connects now, since the mount may cover the socket's path.
            with contextlib.suppress(OSError):
                channel.connect(address)
                self._socket = channel
                stack.pop_all()

    def ready(self, source: str, mountpoint: str, clients: str) -> None:
        """Report that the mount answers, and where clients connect."""
        status = f"{source} on {mountpoint}; clients connect at {clients}"
        self._tell("READY=1", f"MAINPID={os.getpid()}", f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """Report that the end has begun.  Later calls do nothing."""
        if not self._ends:
            self._ends = True
            self._tell("STOPPING=1", "STATUS=unmounting")

    def _tell(self, *lines: str) -> None:
        if self._socket is not None:
            message = "\n".join(lines).encode()
            # In a thread, because a busy service manager makes the sender wait.
            threading.Thread(target=_send, args=(self._socket, message), daemon=True).start()


def _send(channel: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):  # the service manager does not listen any more
        channel.send(message)


def _line(text: str) -> str:
    """Return text as one line that is valid UTF-8, whatever names are in it."""
    shown = os.fsencode(text).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
