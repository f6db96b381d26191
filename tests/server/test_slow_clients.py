# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients of a real mount that are slow, stuck, half gone or dead; others notice nothing."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from fusenotify import Mounted
from fusenotify.client import Client, Device
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE
from fusenotify.protocol.codec import answer_decoder, encode
from fusenotify.protocol.messages import (
    MAX_READ,
    VERSION,
    AddWatch,
    AnyAnswer,
    AnyRequest,
    Error,
    Hello,
    Init,
    Records,
    Stream,
)
from tests.cli.command import FUSENOTIFY, until
from tests.conftest import Mounting
from tests.server.buffers import measure

pytestmark = pytest.mark.mount

# Long enough that the sockets' buffers hold few of them.
NAME = "{:0200}"
CONNECTIONS = 10_000
SLACK_KIB = 512

DIE_MID_FRAME = """
import os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(bytes.fromhex(sys.argv[2]))
connection.recv(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def frames(*requests: AnyRequest) -> bytes:
    """Return requests, numbered from 1 on, as they are sent."""
    for number, request in enumerate(requests, 1):
        request.id = number
    return b"".join(map(encode, requests))


def streaming(queue: int | None = None) -> bytes:
    """Return what a client sends that streams the creations in a mount's root."""
    return frames(
        Hello(version=VERSION),
        Init(max_queued_events=queue),
        AddWatch(device=1, path=b"/", mask=IN_CREATE),
        Stream(device=1, size=MAX_READ),
    )


@contextlib.contextmanager
def connected(mount: Mounted, sent: bytes) -> Iterator[socket.socket]:
    """A connection on which something was sent, and done, and nothing is read."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(mount.socket)
        connection.sendall(sent)
        assert select.select([connection], [], [], 10)[0]
        yield connection


@contextlib.contextmanager
def quick(mount: Mounted) -> Iterator[tuple[Client, Device]]:
    """Another client, and its device that watches creations in the root."""
    with mount.client() as client:
        device = client.init()
        device.add_watch("/", IN_CREATE)
        yield client, device


def make(mount: Mounted, number: int) -> bytes:
    """Make a file in the root and return its name."""
    name = NAME.format(number)
    os.close(os.open(f"{mount.mountpoint}/{name}", os.O_CREAT | os.O_WRONLY))
    return name.encode()


def heard(device: Device, seconds: float = 10) -> list[bytes]:
    """Return the names in the next records, which come within that time."""
    return names(device.read(timeout=seconds))


def names(records: bytes) -> list[bytes]:
    """Return the names in records, each of which has one."""
    return [name for _, _, _, name in unpack(records) if name is not None]


class Held(NamedTuple):
    """What a daemon has for its clients."""

    connections: int
    devices: int
    watches: int
    tasks: int
    descriptors: int


def held(mount: Mounted) -> Held:
    """Ask a daemon, by a connection that is left out."""
    command = [*FUSENOTIFY, "status", "--json", mount.mountpoint]
    told = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True).stdout
    (status,) = json.loads(told)
    devices: list[dict[str, Any]] = [
        device for client in status["clients"] for device in client["devices"]
    ]
    return Held(
        connections=len(status["clients"]) - 1,
        devices=len(devices),
        watches=sum(device["watches"] for device in devices),
        tasks=status["tasks"],
        descriptors=len(os.listdir(f"/proc/{mount.pid}/fd")),
    )


def resident_kib(mount: Mounted) -> int:
    with open(f"/proc/{mount.pid}/statm") as fields:
        return int(fields.read().split()[1]) * resource.getpagesize() // 1024


def test_beside_a_client_that_never_reads_others_get_everything_at_once(mounted: Mounted) -> None:
    with connected(mounted, streaming(queue=100)), quick(mounted) as (client, device):
        made = 0

        def overflows() -> int:
            return sum(
                each.overflows for other in client.status().clients for each in other.devices
            )

        while not overflows():
            for _ in range(50):
                name = make(mounted, made)
                made += 1
                assert heard(device) == [name]
            assert made < 10_000, "the queue behind the client never overflowed"


def test_while_a_client_reads_a_byte_a_second_others_get_everything_at_once(
    mounted: Mounted,
) -> None:
    with connected(mounted, streaming()) as trickle, quick(mounted) as (_, device):
        taken, made = b"", 0
        for _ in range(3):
            due = time.monotonic() + 1
            while time.monotonic() < due:
                name = make(mounted, made)
                made += 1
                assert heard(device, seconds=1) == [name]
            taken += trickle.recv(1)
        assert len(taken) == 3
        assert made > 100
        # What trickled is the beginning of what a quick reader would have had.
        decoder, late = answer_decoder(), list[bytes]()
        while len(late) < made:
            for answer in decoder.feed(taken):
                if isinstance(answer, Records):
                    late += names(answer.data)
            if len(late) < made:
                taken = trickle.recv(1 << 16)
        assert late == [NAME.format(number).encode() for number in range(made)]


def test_a_client_that_shuts_down_its_sending_side_gets_the_end_and_leaves_nothing(
    mounted: Mounted,
) -> None:
    before = held(mounted)
    with connected(mounted, streaming()) as half:
        half.settimeout(10)
        half.shutdown(socket.SHUT_WR)
        decoder, answers = answer_decoder(), list[AnyAnswer]()
        while data := half.recv(1 << 16):
            answers += decoder.feed(data)
        assert isinstance(answers[-1], Error)
        assert [answer.id for answer in answers] == [1, 2, 3, 4]
        until(lambda: held(mounted) == before, "the daemon let go of it")


@pytest.mark.parametrize(
    "cut", [pytest.param(2, id="in a length"), pytest.param(20, id="in a message")]
)
def test_a_client_killed_in_mid_frame_leaves_nothing(mounted: Mounted, cut: int) -> None:
    before = held(mounted)
    with quick(mounted) as (_, device):
        begun = streaming() + frames(AddWatch(device=1, path=b"/", mask=IN_CREATE))[:cut]
        died = subprocess.run(
            [sys.executable, "-c", DIE_MID_FRAME, mounted.socket, begun.hex()],
            timeout=60,
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        name = make(mounted, 1)
        assert heard(device) == [name]
        os.unlink(f"{mounted.mountpoint}/{name.decode()}")
    until(lambda: held(mounted) == before, "the daemon let go of it")


def test_a_client_that_connects_ten_thousand_times_leaves_nothing(mounted: Mounted) -> None:
    ways = [
        b"",
        frames(Hello(version=VERSION)),
        frames(Hello(version=VERSION))[:-1],
        streaming(),
    ]

    def connect(times: int) -> None:
        for number in range(times):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(mounted.socket)
                connection.sendall(ways[number % len(ways)])
        until(lambda: held(mounted) == before, "the daemon let go of all")

    before = held(mounted)
    connect(CONNECTIONS // 2)
    memory = resident_kib(mounted)
    connect(CONNECTIONS // 2)
    assert resident_kib(mounted) - memory < SLACK_KIB


def test_the_memory_for_a_client_that_never_reads_is_bounded(
    mounting: Mounting,
) -> None:
    """docs/reference/security.md has the figures; the largest answer has 1 MiB and 64 KiB."""
    clients = 10
    with mounting(max_user_instances=2 * clients + 2) as mount:
        grown = [bytes_ for _, bytes_ in measure(mount, clients)]
    connect, waiting, _queued, streamed, begun = grown
    assert connect < 64 * 1024
    assert waiting < 255 * 8 * 1024
    assert streamed + begun < 1.5 * 2**20
