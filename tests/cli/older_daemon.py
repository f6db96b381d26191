# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that understands ``hello`` and ``init``, and of what came later nothing."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusenotify.protocol.codec import encode, request_decoder
from fusenotify.protocol.messages import (
    NO_REQUEST,
    VERSION,
    DeviceMade,
    Error,
    Hello,
    Init,
    Welcome,
)


@contextmanager
def older_daemon(path: Path, complaint: str, *, detailed: bool = True) -> Iterator[str]:
    """Serve one client of a mount at path; yield the socket.

    complaint is what it says at the first request that it does not know, which is
    ``init`` where it is not to know detailed devices.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "socket"))
        listener.listen()
        thread = threading.Thread(target=_serve, args=[listener, path, complaint, detailed])
        thread.start()
        yield str(path / "socket")
        thread.join()


def _serve(listener: socket.socket, path: Path, complaint: str, detailed: bool) -> None:
    connection, _ = listener.accept()
    decoder = request_decoder()
    with connection:
        while data := connection.recv(65536):
            for request in decoder.feed(data):
                answer: Welcome | DeviceMade | Error
                match request:
                    case Hello():
                        answer = Welcome(
                            id=request.id,
                            version=VERSION,
                            semantics="linux-6",
                            mountpoint=os.fsencode(path),
                            pid=1,
                            server="fusenotify 0.0",
                        )
                    case Init() if detailed or not request.detailed:
                        answer = DeviceMade(id=request.id, device=1)
                    case _:
                        answer = Error(id=NO_REQUEST, errno=errno.EPROTO, message=complaint)
                connection.sendall(encode(answer))
                if isinstance(answer, Error):
                    return
