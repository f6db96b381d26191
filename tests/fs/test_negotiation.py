# SPDX-License-Identifier: GPL-2.0-or-later
"""INIT: the kernel is asked for more than libfuse asks, of what it offers."""

from __future__ import annotations

import gc
import os
import platform
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fusenotify.fs.negotiation import WANTED, Negotiation
from tests.cli.command import until

ASYNC_READ = 1  # a flag that libfuse has a word for
EVERYTHING = 0xFFFFFFFF


def request(offered: int) -> bytes:
    header = struct.pack("=IIQQIIII", 104, 26, 2, 0, 0, 0, 0, 0)
    return header + struct.pack("=IIII", 7, 45, 131072, offered) + bytes(48)


def answer(flags: int) -> bytes:
    return struct.pack("=IiQ", 80, 0, 2) + struct.pack("=IIII", 7, 31, 131072, flags) + bytes(48)


def begun(ends: tuple[socket.socket, socket.socket], answered: bytes) -> Negotiation:
    """Return a negotiation in which libfuse was asked and has answered."""
    kernel, ours = ends
    kernel.send(request(EVERYTHING))
    negotiation = Negotiation()
    negotiation.begin(ours.fileno())
    assert os.read(ours.fileno(), 8192) == request(EVERYTHING)
    os.write(ours.fileno(), answered)
    return negotiation


def fill_up_to(stack: ExitStack, free: int) -> None:
    """Leave the process so many free descriptors, as long as the stack has not unwound."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 1 + free
    taken = len(os.listdir("/proc/self/fd")) - 1  # without the one that lists
    for _ in range(most - free - taken):
        stack.callback(os.close, os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The kernel's end of a connection, and the one that libfuse reads and writes."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, ours:
        yield kernel, ours


@pytest.mark.parametrize(
    ("offered", "added"),
    [(EVERYTHING, WANTED), (ASYNC_READ, 0), (1 << 28, 1 << 28)],
    ids=["all is offered", "nothing of it is", "a part is"],
)
def test_offered_flags_are_asked_for(
    ends: tuple[socket.socket, socket.socket], offered: int, added: int
) -> None:
    kernel, ours = ends
    kernel.send(request(offered))
    negotiation = Negotiation()
    negotiation.begin(ours.fileno())
    assert os.read(ours.fileno(), 8192) == request(offered)
    os.write(ours.fileno(), answer(ASYNC_READ))
    negotiation.end(ours.fileno())
    assert kernel.recv(8192) == answer(ASYNC_READ | added)
    kernel.send(b"the next request")
    assert os.read(ours.fileno(), 8192) == b"the next request"


OTHER_REQUEST = struct.pack("=IIQQIIII", 56, 3, 9, 1, 0, 0, 0, 0) + bytes(16)  # GETATTR
LONG_HEADER = struct.pack("=IIQ", 112, 26, 2) + bytes(96)  # as long as it says, and no INIT known


@pytest.mark.parametrize("first", [OTHER_REQUEST, request(EVERYTHING)[:-8], LONG_HEADER, b"x"])
def test_an_unknown_form_of_init_passes_unchanged(
    ends: tuple[socket.socket, socket.socket], first: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kernel, ours = ends
    kernel.send(first)
    negotiation = Negotiation()
    negotiation.begin(ours.fileno())
    assert os.read(ours.fileno(), 8192) == first
    os.write(ours.fileno(), answer(ASYNC_READ))
    assert negotiation.end(ours.fileno())
    assert kernel.recv(8192) == answer(ASYNC_READ)
    assert caplog.messages == [
        "the kernel is asked for no more than libfuse asks: its first request is not as expected"
    ]


@pytest.mark.parametrize(
    "answered",
    [
        pytest.param(answer(ASYNC_READ)[:-8], id="another length than it says"),
        pytest.param(struct.pack("=IiQ", 80, 0, 3) + answer(0)[16:], id="to another request"),
        pytest.param(answer(0)[:16] + struct.pack("=I", 8) + answer(0)[20:], id="another protocol"),
    ],
)
def test_an_unknown_form_of_answer_passes_unchanged(
    ends: tuple[socket.socket, socket.socket], answered: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kernel, ours = ends
    assert begun(ends, answered).end(ours.fileno())
    assert kernel.recv(8192) == answered
    assert "libfuse's answer is not as expected" in caplog.text


def test_a_wait_before_the_request_was_read_does_not_end_the_exchange(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    kernel, ours = ends
    kernel.send(request(EVERYTHING))
    negotiation = Negotiation()
    negotiation.begin(ours.fileno())
    assert not negotiation.end(ours.fileno())
    assert os.read(ours.fileno(), 8192) == request(EVERYTHING)
    os.write(ours.fileno(), answer(0))
    assert negotiation.end(ours.fileno())
    assert kernel.recv(8192) == answer(WANTED)


def test_an_answer_that_comes_late_goes_to_the_kernel_by_itself(
    ends: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    kernel, ours = ends
    kernel.send(request(EVERYTHING))
    negotiation = Negotiation()
    negotiation.begin(ours.fileno())
    os.read(ours.fileno(), 8192)
    assert negotiation.end(ours.fileno())
    assert "libfuse did not answer as expected" in caplog.text
    os.write(ours.fileno(), answer(0))
    assert kernel.recv(8192) == answer(0)


def test_a_refusal_goes_to_the_kernel_as_it_is(ends: tuple[socket.socket, socket.socket]) -> None:
    kernel, ours = ends
    refusal = struct.pack("=IiQ", 16, -71, 2)
    begun(ends, refusal).end(ours.fileno())
    assert kernel.recv(8192) == refusal


def test_no_descriptor_is_left_or_handed_to_programs(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    _, ours = ends
    gc.collect()  # nothing else shall be closed meanwhile
    before = os.listdir("/proc/self/fd")
    negotiation = begun(ends, answer(0))
    assert not ours.get_inheritable()
    negotiation.end(ours.fileno())
    assert not ours.get_inheritable()
    assert os.listdir("/proc/self/fd") == before


def test_without_descriptors_the_request_is_left_to_libfuse(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    kernel, ours = ends
    kernel.send(request(EVERYTHING))
    negotiation = Negotiation()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for free in range(3):  # a pair of sockets and a duplicate are wanted
        with ExitStack() as stack:
            fill_up_to(stack, free)
            with pytest.raises(OSError, match="Too many open files"):
                negotiation.begin(ours.fileno())
        assert not negotiation.begun
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
    assert os.read(ours.fileno(), 8192) == request(EVERYTHING)


def test_an_unmount_before_the_answer_is_left_for_libfuse_to_see(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    kernel, ours = ends
    negotiation = begun(ends, answer(0))
    kernel.close()
    negotiation.end(ours.fileno())
    assert os.read(ours.fileno(), 8192) == b""


# What another pyfuse3 might do, each as a change of the one that is installed.
CHANGED = {
    "another version": "pyfuse3.__version__ = '9.8.7'",
    "no version": "del pyfuse3.__version__",
    "a wait more before it reads": """
inner = pyfuse3.main
async def waits_twice(**settings):
    import os
    fuse = [int(n) for n in os.listdir('/proc/self/fd') if links_to_fuse(n)]
    await pyfuse3.trio.lowlevel.wait_readable(fuse[0])
    await inner(**settings)
def links_to_fuse(name):
    import os
    try:
        return os.readlink('/proc/self/fd/' + name) == '/dev/fuse'
    except FileNotFoundError:
        return False
pyfuse3.main = waits_twice
""",
}


@pytest.mark.mount
@pytest.mark.parametrize("change", CHANGED)
def test_a_pyfuse3_that_changed_makes_a_mount_nevertheless(tmp_path: Path, change: str) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    program = f"import pyfuse3, sys\n{CHANGED[change]}\nfrom fusenotify.cli import main\n"
    command = [sys.executable, "-c", program + "sys.exit(main(sys.argv[1:]))", "mount", "-f"]
    with subprocess.Popen([*command, source, mnt], stderr=subprocess.PIPE, text=True) as daemon:
        until(mnt.is_mount, "it is mounted")
        try:
            os.umask(os.umask(0o022))
            for number in range(20):
                (mnt / str(number)).write_text("content")
            assert (mnt / "7").read_text() == "content"
        finally:
            subprocess.run(["fusermount3", "-u", mnt], check=True)
        _, said = daemon.communicate(timeout=30)
    assert daemon.returncode == 0
    asked = "the kernel is asked for no more than libfuse asks"
    assert said.count(asked) == (change != "a wait more before it reads")
    assert len(said.splitlines()) == said.count(asked)


@pytest.mark.mount
@pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (5, 12),
    reason="Linux has FUSE_HANDLE_KILLPRIV_V2 since 5.12",
)
def test_capabilities_are_asked_for_once_and_not_before_each_write(tmp_path: Path) -> None:
    """So that a write is one request; see FUSE_HANDLE_KILLPRIV_V2."""
    source, mnt, log = tmp_path / "source", tmp_path / "mnt", tmp_path / "log"
    source.mkdir()
    mnt.mkdir()
    command = [sys.executable, "-m", "fusenotify", "mount", "-f", "-o", "debug"]
    with (
        log.open("wb") as stderr,
        subprocess.Popen([*command, source, mnt], stdout=stderr, stderr=stderr) as daemon,
    ):
        try:
            until(mnt.is_mount, "it is mounted")
            with (mnt / "f").open("wb", buffering=0) as file:
                for _ in range(10):
                    file.write(b"x")
        finally:
            subprocess.run(["fusermount3", "-u", mnt], check=True)
        assert daemon.wait(30) == 0
    text = log.read_text(errors="replace")
    assert text.count(": write(fh ") == 10
    assert text.count(": getxattr(") == 1
