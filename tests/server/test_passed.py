# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors that clients pass: the kernel says of what, and none keeps others waiting."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

import fusenotify
from fusenotify import Mounted, mountinfo
from fusenotify.client import Client
from fusenotify.masks import IN_MODIFY

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp("passed")
    (top / "source").mkdir()
    (top / "mnt").mkdir()
    with fusenotify.mounted(top / "source", top / "mnt") as mounted:
        yield mounted


@pytest.fixture(autouse=True)
def _nothing_is_left_open(mounted: Mounted) -> Iterator[None]:
    def count() -> int:
        """Return how many descriptors the daemon has that are not SOURCE's."""
        with Client(mounted.socket) as client:
            client.sync()
        visible = {f"mnt_id:\t{mount.id}\n" for mount in mountinfo.mounts()}
        found = 0
        for name in os.listdir(f"/proc/{mounted.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/{mounted.pid}/fd/{name}")
                said = Path(f"/proc/{mounted.pid}/fdinfo/{name}").read_text()
                # The daemon has SOURCE in a mount of its own, which is nowhere in the tree.
                is_sources = target.startswith("/") and not visible & set(said.splitlines(True))
                found += not is_sources
        return found

    before = count()
    yield
    end = time.monotonic() + 10
    while count() > before:
        assert time.monotonic() < end, f"{count()} descriptors, {before} before"


class Raw:
    """A client that sends what it likes."""

    def __init__(self, mounted: Mounted, *, hello: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(mounted.socket)
        if hello:
            self.ask(type="hello", id=1, version=1)
            self.device = self.ask(type="init", id=2)["device"]

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, *passed: int, **request: Any) -> dict[str, Any]:
        """Send a request with descriptors, and return its answer."""
        self.send(*passed, **request)
        (length,) = struct.unpack(">I", self.socket.recv(4, socket.MSG_WAITALL))
        answer: dict[str, Any] = msgpack.unpackb(self.socket.recv(length, socket.MSG_WAITALL))
        return answer

    def send(self, *passed: int, **request: Any) -> None:
        body = msgpack.packb(request)
        data = struct.pack(">I", len(body)) + body
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))
        self.socket.sendmsg([data], [rights] if passed else [])

    def add_watch(self, *passed: int) -> str | int:
        answer = self.ask(
            *passed, type="add_watch", id=3, device=self.device, path=None, mask=IN_MODIFY
        )
        return answer["wd"] if "wd" in answer else errno.errorcode[answer["errno"]]


def lingering() -> tuple[int, list[socket.socket]]:
    """Return a descriptor whose last close waits for a minute, and what must stay open for that."""
    listener = socket.create_server(("127.0.0.1", 0))
    sending = socket.create_connection(listener.getsockname())
    silent, _ = listener.accept()
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    sending.setblocking(False)
    try:
        while True:
            sending.send(bytes(65536))
    except BlockingIOError:
        pass
    return sending.detach(), [listener, silent]


@contextlib.contextmanager
def stopped(mounted: Mounted) -> Iterator[None]:
    """Let the daemon do nothing while the block runs, so that it will have the last descriptor."""
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(mounted.pid, signal.SIGCONT)


def check_others_are_served(mounted: Mounted) -> None:
    begin = time.monotonic()
    with Client(mounted.socket) as client:
        client.sync()
        (Path(mounted.mountpoint) / "seen").touch()
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("path", "flags", "verdict"),
    [
        pytest.param("file", os.O_PATH, 1, id="a file of the mount"),
        pytest.param("", os.O_PATH, 1, id="the mount itself"),
        pytest.param("file", os.O_RDONLY, "EBADF", id="an open file of the mount"),
        pytest.param("/etc/passwd", os.O_PATH, "EXDEV", id="a file of another filesystem"),
        pytest.param("/proc/self", os.O_PATH, "EXDEV", id="a directory of proc"),
        pytest.param("/dev/null", os.O_RDWR, "EBADF", id="a device"),
    ],
)
def test_the_kind_of_descriptor_decides(
    mounted: Mounted, path: str, flags: int, verdict: str | int
) -> None:
    (Path(mounted.mountpoint) / "file").touch()
    descriptor = os.open(Path(mounted.mountpoint, path), flags)
    with Raw(mounted) as raw:
        assert raw.add_watch(descriptor) == verdict
        os.close(descriptor)
        check_others_are_served(mounted)


def test_the_daemon_may_have_the_last_one_of_its_own_files(mounted: Mounted) -> None:
    path = Path(mounted.mountpoint, "last")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    with Raw(mounted) as raw:
        raw.send(descriptor, type="add_watch", id=3, device=1, path=None, mask=IN_MODIFY)
        os.close(descriptor)
        check_others_are_served(mounted)


def test_without_one_there_is_nothing_to_watch(mounted: Mounted) -> None:
    with Raw(mounted) as raw:
        assert raw.add_watch() == "EBADF"
        assert raw.ask(type="sync", id=4)["type"] == "done"


def test_one_comes_with_one_request(mounted: Mounted) -> None:
    held = os.open(mounted.mountpoint, os.O_PATH)
    for passed, request in (
        ([held, held], {"type": "add_watch", "device": 1, "path": None, "mask": IN_MODIFY}),
        ([held] * 253, {"type": "sync"}),
        ([held], {"type": "sync"}),
    ):
        with Raw(mounted) as raw:
            raw.send(*passed, id=3, **request)
            answers = raw.socket.recv(4096) + raw.socket.recv(4096)
            assert b"descriptor" in answers
    os.close(held)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            {"type": "add_watch", "device": 1, "path": None, "mask": 2}, id="as it should"
        ),
        pytest.param({"type": "sync"}, id="with another request"),
        pytest.param({"type": "nonsense"}, id="with no request"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_descriptor_whose_close_waits_keeps_nobody_else_waiting(
    mounted: Mounted, request_: dict[str, Any], count: int
) -> None:
    passed = [lingering() for _ in range(count)]
    with Raw(mounted) as raw:
        with stopped(mounted):
            raw.send(*(descriptor for descriptor, _ in passed), id=3, **request_)
            for descriptor, _ in passed:
                os.close(descriptor)
        check_others_are_served(mounted)
        raw.socket.close()
        check_others_are_served(mounted)
    for _, others in passed:
        for other in others:
            other.close()  # ends the waiting


def test_descriptors_that_are_never_read_are_closed(mounted: Mounted) -> None:
    descriptor, others = lingering()
    with Raw(mounted, hello=False) as raw:
        with stopped(mounted):
            raw.socket.sendall(b"\xff" * 4)  # breaks the protocol
            raw.send(descriptor, type="sync", id=3)
            os.close(descriptor)
        check_others_are_served(mounted)
        raw.socket.close()
        check_others_are_served(mounted)
    for other in others:
        other.close()
