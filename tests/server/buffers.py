# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients that never read make a daemon hold, beside their queues.

    python -m tests.server.buffers --clients 50

Clients do the worst that the protocol lets them, one thing after the other; each
line says by how much the daemon's resident memory grew by it, per client.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import socket
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client
from fusenotify.masks import IN_CREATE
from fusenotify.protocol.codec import answer_decoder, encode
from fusenotify.protocol.messages import (
    MAX_READ,
    MAX_REQUEST_FRAME,
    VERSION,
    AddWatch,
    AnyRequest,
    Error,
    Hello,
    Init,
    Poll,
    Stream,
)
from tests.cli.command import until

# Records of 272 bytes, more than the largest answer holds.
EVENTS = 4000
WAITING = 255  # and the stream
_STREAM = 1000


def resident(mount: Mounted) -> int:
    """Return a daemon's resident memory in bytes."""
    with open(f"/proc/{mount.pid}/statm") as fields:
        return int(fields.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Greedy:
    """A client of plain sockets that reads nothing after its set-up."""

    def __init__(self, name: str) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(name)
        # One device whose queue is to fill, one that hears nothing.
        self.ask(Hello(version=VERSION), Init(), Init())
        self.ask(AddWatch(device=1, path=b"/", mask=IN_CREATE))

    def send(self, *requests: AnyRequest, first: int = 1) -> None:
        """Send requests, numbered from first on."""
        for number, request in enumerate(requests, first):
            request.id = number
        self.connection.sendall(b"".join(map(encode, requests)))

    def ask(self, *requests: AnyRequest) -> None:
        """Send requests and read as many answers."""
        self.send(*requests)
        decoder, answered = answer_decoder(), 0
        while answered < len(requests):
            for answer in decoder.feed(self.connection.recv(65536)):
                assert not isinstance(answer, Error), answer
                answered += 1


def measure(mount: Mounted, clients: int) -> Iterator[tuple[str, float]]:
    """Yield what clients do and how many bytes the daemon grew by, per client."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(mount.client())
        _warm(mount, client)
        held = resident(mount)

        def grown() -> float:
            nonlocal held
            client.sync()
            before, held = held, resident(mount)
            return (held - before) / clients

        greedy = [Greedy(mount.socket) for _ in range(clients)]
        for each in greedy:
            stack.enter_context(each.connection)
        yield "connect, make two devices, watch", grown()
        tasks = client.status().tasks
        for each in greedy:
            each.send(*(Poll(device=2) for _ in range(WAITING)))
        until(lambda: client.status().tasks >= tasks + clients * WAITING, "all wait")
        yield f"let {WAITING} requests wait", grown()
        for number in range(EVENTS):
            os.close(os.open(f"{mount.mountpoint}/{number:0250}", os.O_CREAT | os.O_WRONLY))
        yield f"let {EVENTS} records of 272 bytes queue", grown()
        for each in greedy:
            each.send(Stream(device=1, size=MAX_READ), first=_STREAM)
        until(lambda: _longest_queue(client) < EVENTS, "all streams have begun")
        yield f"stream, and never read the first {MAX_READ} bytes", grown()
        begun = MAX_REQUEST_FRAME.to_bytes(4, "big") + b"x" * (MAX_REQUEST_FRAME - 1)
        for each in greedy:
            each.connection.sendall(begun)
        until(lambda: not any(map(_unreceived, greedy)), "the daemon received all")
        yield f"send all but the last of a frame's {MAX_REQUEST_FRAME} bytes", grown()


def _warm(mount: Mounted, client: Client) -> None:
    Greedy(mount.socket).connection.close()
    client.sync()


def _longest_queue(client: Client) -> int:
    return max(device.queued for status in client.status().clients for device in status.devices)


def _unreceived(greedy: Greedy) -> int:
    """Return how much that was sent is still in the sockets' buffers.  Linux: SIOCOUTQ."""
    left = fcntl.ioctl(greedy.connection, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(left, sys.byteorder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    clients = parser.parse_args(arguments).clients
    with tempfile.TemporaryDirectory() as top:
        source, mountpoint = Path(top, "source"), Path(top, "mnt")
        source.mkdir()
        mountpoint.mkdir()
        with fusenotify.mounted(source, mountpoint, max_user_instances=2 * clients + 2) as mount:
            for what, grown in measure(mount, clients):
                print(f"{grown / 1024:8.1f} KiB  {what}")


if __name__ == "__main__":
    main()
