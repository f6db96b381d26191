# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile frames, as many as one likes: on the decoder, and on a server in its own process.

    python -m tests.server.fuzz --frames 10000000 --live 1000000 --seed 1

Frames are requests with fields of wrong types and values, and with bytes
changed, cut or added.  It fails where anything but RemoteProtocolError leaves
the decoder, where the server logs an exception, does not answer another
client, or ends with more descriptors than it had.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from fusenotify.client import Client
from fusenotify.protocol.codec import request_decoder
from fusenotify.protocol.errors import RemoteProtocolError
from fusenotify.protocol.messages import VERSION

_GOOD = [
    "init",
    "add_watch",
    "rm_watch",
    "read",
    "poll",
    "fionread",
    "close",
    "sync",
    "stream",
    "cancel",
    "status",
    "limits",
    "fault",
]
_TYPES = [*_GOOD * 8, "hello", "mount"]
_NUMBERS = (0, 1, 1, 1, 2, 3, -1, 16, 4096, 2**31, 2**32, 2**63, -(2**63), 2**64 - 1)
_FIELDS: dict[str, tuple[Any, ...]] = {
    "version": (VERSION, 0, 2),
    "device": (1, 1, 1, 2, 0),
    "path": (b"/", b"", b"docs", b"none", b"..", b"\0", b"\xff" * 300, b"a/" * 3000, "/"),
    "mask": (0xFFF, 0x100, 0, 0x80000FFF, 2**32 - 1, 2**32),
    "wd": (1, 2, 0, -1),
    "size": (65536, 16, 0, 1, 2**40, -1),
    "timeout": (0, 0.0, 0.001, -1, float("nan"), float("inf"), None),
    "max_queued_events": (None, 0, 1, -1, 2**63),
    "max_user_watches": (None, 8192, -1, 2**63),
    "semantics": (None, "linux-6", "linux-2.6.18", "x", "\ud7ff"),
    "request": (1, 2, 3, 0),
    "fault": (
        {"kind": "overflow"},
        {"kind": "inject", "wd": 1, "mask": 0x100, "name": b"a"},
        {"kind": "inject", "wd": -(2**63), "mask": 2**64 - 1, "cookie": -1, "name": b"\0" * 300},
        {"kind": "lose", "count": 2},
        {"kind": "lose", "count": 2**64 - 1, "mask": -1},
        {"kind": "delay", "seconds": 0.001},
        {"kind": "delay", "seconds": float("nan")},
        {"kind": "refuse", "count": 1, "error": "ENOMEM"},
        {"kind": "refuse", "count": 1, "error": "\ud7ff"},
        {"kind": "disconnect"},
        {"kind": "clear"},
        {"kind": "mend"},
        {},
    ),
}
_OF_TYPE = {
    "hello": ("version",),
    "init": ("max_queued_events", "semantics"),
    "add_watch": ("device", "path", "mask"),
    "rm_watch": ("device", "wd"),
    "read": ("device", "size", "timeout"),
    "poll": ("device", "timeout"),
    "fionread": ("device",),
    "close": ("device",),
    "stream": ("device", "size"),
    "cancel": ("request",),
    "fault": ("fault",),
}
_BURST = 20
_PARTS = 10


def frame(chosen: random.Random) -> bytes:
    """Return a request, mostly of the right shape, framed, mostly rightly."""
    kind = chosen.choice(_TYPES)
    request: dict[Any, Any] = {"type": kind, "id": _id(chosen)}
    for field in _OF_TYPE.get(kind, ()):
        request[field] = chosen.choice(_FIELDS[field])
    if kind == "fault" and chosen.getrandbits(1):
        request["device"] = chosen.choice(_FIELDS["device"])
    match chosen.randrange(24):
        case 0:
            request[chosen.choice([*_FIELDS, "id", "x", 1])] = chosen.choice(
                [*_NUMBERS, None, True, 0.5, b"x", "x", [], {}, [[1]], msgpack.Timestamp(1)]
            )
        case 1:
            del request[chosen.choice([*request])]
    body = bytearray(msgpack.packb(request))
    match chosen.randrange(24):
        case 0:
            body[chosen.randrange(len(body))] = chosen.randrange(256)
        case 1:
            del body[chosen.randrange(len(body)) :]
        case 2:
            body += chosen.randbytes(chosen.randrange(1, 40))
        case 3:
            body = bytearray(chosen.randbytes(chosen.randrange(60)))
    length = len(body)
    if not chosen.randrange(60):
        length = chosen.choice([0, length + 1, 65536, 65537, 2**32 - 1])
    return length.to_bytes(4, "big") + body


def _id(chosen: random.Random) -> int:
    return chosen.choice((0, -1, 1, 2, 2**63)) if chosen.random() < 0.05 else chosen.getrandbits(40)


def fuzz_decoder(frames: int, seed: int) -> int:
    """Feed frames to decoders in pieces; return how many were refused."""
    chosen = random.Random(seed)
    decoder, refused = request_decoder(), 0
    for _ in range(frames):
        data = frame(chosen)
        cut = chosen.randrange(len(data) + 1)
        try:
            for piece in (data[:cut], data[cut:]):
                for _message in decoder.feed(piece):
                    pass
        except RemoteProtocolError:
            refused += 1
            decoder = request_decoder()
    return refused


@dataclass
class Daemon:
    """A server of a tree in memory, in a process of its own."""

    socket: str
    pid: int

    def memory(self) -> int:
        """Return its resident memory in KiB."""
        with open(f"/proc/{self.pid}/statm") as fields:
            return int(fields.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def daemon() -> Iterator[Daemon]:
    """Run one; at the end it must live and have nothing to say on stderr."""
    with tempfile.TemporaryDirectory() as top, tempfile.TemporaryFile() as said:
        path = f"{top}/x.sock"
        command = [sys.executable, "-m", "tests.client.running", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                yield Daemon(path, process.pid)
                assert process.poll() is None, "the server ended"
            finally:
                process.kill()
        said.seek(0)
        assert not (text := said.read().decode()), text


def attack(path: str, chosen: random.Random, frames: int) -> int:
    """Send frames over one connection, till the server had enough; return how many answer bytes."""
    data = b"".join(frame(chosen) for _ in range(frames))
    if chosen.randrange(20):
        data = frame_of(type="hello", id=90, version=VERSION) + frame_of(type="init", id=91) + data
    taken = 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            if not chosen.randrange(10):
                return taken  # as one that dies
            connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(1 << 16):
                taken += len(received)
    return taken


def frame_of(**request: Any) -> bytes:
    body: bytes = msgpack.packb(request)
    return len(body).to_bytes(4, "big") + body


def fuzz_server(served: Daemon, frames: int, seed: int) -> None:
    """Attack with so many frames; another client is answered all the while."""
    chosen = random.Random(seed)
    with Client(served.socket) as client:
        device = client.init(nonblock=True)
        device.add_watch("/", 0xFFF)
        for burst in range(0, frames, _BURST):
            attack(served.socket, chosen, min(_BURST, frames - burst))
            if not burst // _BURST % 50:
                client.sync()
        client.sync()
        others = client.status().users[0]
        assert (others.devices, others.watches) == (1, 1), others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="on the decoder")
    parser.add_argument("--live", type=int, default=20_000, help="on a server")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begin = time.monotonic()
    refused = fuzz_decoder(arguments.frames, arguments.seed)
    took = time.monotonic() - begin
    print(f"decoder: {arguments.frames} frames, {refused} refused, {took:.1f} s")
    with daemon() as served:
        fuzz_server(served, min(arguments.live, 2000), arguments.seed + 1)  # warm
        memory, descriptors = [served.memory()], served.descriptors()
        begin = time.monotonic()
        for part in range(_PARTS):
            fuzz_server(served, arguments.live // _PARTS, arguments.seed + 2 + part)
            memory.append(served.memory())
        took = time.monotonic() - begin
        assert served.descriptors() <= descriptors, "descriptors leak"
        print(f"server: {arguments.live} frames, {took:.1f} s, memory in KiB at the beginning and")
        print(f"after each of {_PARTS} parts:", *memory)


if __name__ == "__main__":
    main()
