# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client behaves as the syscalls do, and says at once when its daemon is gone."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from fusenotify.client import Client, ConnectionLost, Device, Inotify
from fusenotify.events import Event, unpack
from fusenotify.masks import IN_ALL_EVENTS, IN_CREATE, IN_IGNORED, IN_ISDIR, IN_Q_OVERFLOW
from fusenotify.protocol.codec import encode
from fusenotify.protocol.errors import RemoteProtocolError
from fusenotify.protocol.faults import Clear, Lose
from fusenotify.protocol.messages import Done, Welcome
from tests.client.running import Running, daemon_process

CREATED = Event(1, IN_CREATE, 0, b"a")


@pytest.fixture
def device(client: Client) -> Device:
    device = client.init()
    device.add_watch("/", IN_ALL_EVENTS)
    return device


def events(records: bytes) -> list[Event]:
    return list(unpack(records))


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(OSError) as refused:  # noqa: PT011  (the caller looks at the errno)
        call(*arguments)
    assert refused.value.errno is not None
    return errno.errorcode[refused.value.errno]


def test_a_client_knows_whom_it_talks_to(client: Client) -> None:
    assert (client.semantics, client.mountpoint, client.pid) == (
        "linux-6",
        b"/mnt/x",
        os.getpid(),
    )
    assert client.server.startswith("fusenotify")


def test_the_syscalls(running: Running, client: Client) -> None:
    running.make("docs", directory=True)
    device = client.init()
    wd = device.add_watch("/docs", IN_CREATE)
    running.make("docs/a")
    client.sync()
    assert device.poll(timeout=0)
    assert device.fionread() == 32
    assert events(device.read(4096)) == [Event(wd, IN_CREATE, 0, b"a")]
    device.rm_watch(wd)
    assert events(device.read(4096)) == [Event(wd, IN_IGNORED)]
    assert not device.poll(timeout=0)
    device.close()
    device.close()
    assert client.status().clients[0].devices == []


def test_a_tree_watch_tells_of_all_below(running: Running, client: Client) -> None:
    running.make("docs", directory=True)
    running.make("file")
    device = client.init()
    wd = device.add_watch("docs", IN_CREATE, tree=True)
    running.make("docs/a", directory=True)
    running.make("docs/a/b")
    client.sync()
    assert events(device.read(4096)) == [
        Event(wd, IN_CREATE | IN_ISDIR, 0, b"a"),
        Event(wd, IN_CREATE, 0, b"a/b"),
    ]
    with pytest.raises(NotADirectoryError):
        device.add_watch("file", IN_CREATE, tree=True)
    status = client.status()
    assert (status.clients[0].devices[0].watches, status.clients[0].devices[0].trees) == (1, 1)
    assert (status.users[0].trees, status.limits.max_user_trees) == (1, 128)


def test_limits_are_asked_for_and_set(client: Client) -> None:
    before = client.limits()
    assert before == client.status().limits
    after = client.set_limits(max_user_watches=5, max_queued_events=0)
    assert (after.max_user_watches, after.max_queued_events) == (5, 0)
    assert after.max_user_instances == before.max_user_instances
    assert client.limits() == after == client.set_limits()
    for number in (-1, 2**31):
        with pytest.raises(OSError, match="max_user_trees is 0 to 2147483647") as refused:
            client.set_limits(max_user_trees=number)
        assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="more than 64 bits"):
        client.set_limits(max_user_trees=2**70)
    with pytest.raises(TypeError):
        client.set_limits(max_user_trees="many")  # type: ignore[arg-type]
    assert client.limits() == after


@pytest.mark.parametrize("path", ["docs", "/docs/", b"docs", Path("docs")])
def test_a_path_may_have_any_type_that_python_accepts(
    running: Running, client: Client, path: Any
) -> None:
    running.make("docs", directory=True)
    assert client.init().add_watch(path, IN_CREATE) == 1


def test_a_read_waits_while_the_device_blocks(running: Running, device: Device) -> None:
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(device.read)
        running.settle()
        running.make("a")
        assert events(reading.result(10)) == [CREATED]


def test_a_read_of_a_nonblocking_device_does_not_wait(client: Client) -> None:
    with client.init(nonblock=True) as device, pytest.raises(BlockingIOError):
        device.read()


def test_a_timeout_passes(device: Device) -> None:
    with pytest.raises(BlockingIOError):
        device.read(timeout=0.01)
    assert not device.poll(timeout=0.01)


def test_a_queue_of_four_overflows(running: Running, client: Client) -> None:
    device = client.init(max_queued_events=4)
    device.add_watch("/", IN_ALL_EVENTS)
    running.make(*"abcdef")
    assert [event.mask for event in events(device.read())] == [IN_CREATE] * 4 + [IN_Q_OVERFLOW]


def test_semantics_are_the_devices(running: Running, client: Client) -> None:
    device = client.init(semantics="linux-2.6.18")
    device.add_watch("/", IN_ALL_EVENTS)
    running.make("a")
    assert device.read(16) == b""


def test_refusals_have_the_kernels_errno(client: Client, device: Device) -> None:
    assert refusal(device.add_watch, "/", 0) == "EINVAL"
    assert refusal(device.add_watch, "/none", IN_CREATE) == "ENOENT"
    assert refusal(device.add_watch, "", IN_CREATE) == "ENOENT"
    assert refusal(device.add_watch, "a\0b", IN_CREATE) == "EINVAL"
    assert refusal(device.add_watch, "x" * 100_000, IN_CREATE) == "ENAMETOOLONG"
    assert refusal(device.rm_watch, 77) == "EINVAL"
    assert refusal(device.read, -1) == "EINVAL"
    assert refusal(device.poll, -1.0) == "EINVAL"
    assert refusal(client.init, False, -1) == "EINVAL"
    assert refusal(client.init, False, None, "linux-7") == "EINVAL"
    assert device.fionread() == 0


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda client, device: device.read(2**64), id="a size"),
        pytest.param(lambda client, device: device.read(timeout=10**400), id="a timeout"),
        pytest.param(lambda client, device: device.poll(10**400), id="the timeout of a poll"),
        pytest.param(lambda client, device: device.add_watch("/", 2**64), id="a mask"),
        pytest.param(lambda client, device: device.rm_watch(-(2**64)), id="a wd"),
        pytest.param(lambda client, device: next(device.stream(2**64)), id="a stream's size"),
        pytest.param(lambda client, device: client.init(max_queued_events=2**64), id="a queue"),
        pytest.param(lambda client, device: client.fault(Lose(2**64)), id="a count"),
        pytest.param(lambda client, device: client.fault(Clear(), 2**64), id="a device"),
        pytest.param(lambda client, device: Inotify(reconnect_seconds=10**400), id="an outage"),
    ],
)
def test_a_number_that_is_too_large_is_invalid_and_costs_nothing(
    client: Client, device: Device, call: Callable[[Client, Device], object]
) -> None:
    assert refusal(call, client, device) == "EINVAL"
    assert device.fionread() == 0


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda device: device.add_watch("/", 1.5), id="a mask that is a fraction"),
        pytest.param(lambda device: device.add_watch(None, IN_CREATE), id="no path"),
        pytest.param(lambda device: device.add_watch(3, IN_CREATE), id="a path that is a number"),
        pytest.param(lambda device: device.rm_watch("1"), id="a wd that is text"),
        pytest.param(lambda device: device.read(timeout="1"), id="a timeout that is text"),
    ],
)
def test_an_argument_of_another_type_is_a_type_error_and_costs_nothing(
    device: Device, call: Callable[[Device], object]
) -> None:
    with pytest.raises(TypeError):
        call(device)
    assert device.fionread() == 0


def test_a_closed_device_is_a_bad_descriptor(device: Device) -> None:
    device.close()
    assert refusal(device.read) == "EBADF"
    assert refusal(device.poll) == "EBADF"
    assert refusal(device.add_watch, "/", IN_CREATE) == "EBADF"


def test_a_closed_client_is_a_bad_descriptor(client: Client, device: Device) -> None:
    client.close()
    client.close()
    assert refusal(client.sync) == "EBADF"
    assert refusal(device.read) == "EBADF"
    device.close()


# Streams.


def test_a_stream_yields_events_as_they_come(running: Running, device: Device) -> None:
    running.make("a", "b")
    stream = device.stream()
    assert [event.name for event in events(next(stream))] == [b"a", b"b"]
    running.make("c")
    assert [event.name for event in events(next(stream))] == [b"c"]


def test_other_requests_go_on_beside_a_stream(running: Running, device: Device) -> None:
    stream = device.stream()
    running.make("a")
    assert events(next(stream)) == [CREATED]
    running.make("b")
    assert device.add_watch("/b", IN_ALL_EVENTS) == 2
    assert [event.name for event in events(next(stream))] == [b"b"]


def test_a_closed_stream_leaves_its_events_to_the_next_read(
    running: Running, device: Device
) -> None:
    running.make(*map(str, range(100)))
    names: list[bytes | None] = []
    stream = device.stream(size=64)
    while len(names) < 10:
        names += [event.name for event in events(next(stream))]
    stream.close()
    assert device.poll()
    left = device.fionread()
    while len(names) < 100:
        records = device.read()
        left -= len(records)
        names += [event.name for event in events(records)]
    assert names == [b"%d" % number for number in range(100)]
    assert left == 0


def test_an_endless_stream_gives_every_event_once(running: Running, device: Device) -> None:
    names = [b"%d" % number for number in range(2000)]
    with ThreadPoolExecutor() as threads:
        making = threads.submit(running.make, *(name.decode() for name in names))
        received: list[bytes | None] = []
        for records in device.stream(size=1024):
            received += [event.name for event in events(records)]
            if received[-1] == names[-1]:
                break
        making.result(10)
    assert received == names


# Threads.


def test_threads_share_a_client(running: Running, client: Client) -> None:
    devices = [client.init() for _ in range(8)]
    for device in devices:
        device.add_watch("/", IN_ALL_EVENTS)
    with ThreadPoolExecutor(len(devices)) as threads:
        reads = [threads.submit(lambda d: list(islice(d.stream(), 1)), d) for d in devices]
        running.settle()
        client.sync()
        running.make("a")
        for read in reads:
            assert events(read.result(10)[0]) == [CREATED]


def test_closing_a_device_ends_another_threads_read(running: Running, device: Device) -> None:
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(refusal, device.read)
        running.settle()
        device.close()
        assert reading.result(10) == "EBADF"


def test_closing_a_client_ends_another_threads_read(
    running: Running, client: Client, device: Device
) -> None:
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(refusal, device.read)
        running.settle()
        client.close()
        assert reading.result(10) == "EBADF"


def test_an_interrupted_read_loses_no_event(running: Running, device: Device) -> None:
    def interrupt_when_waiting() -> None:
        running.settle()
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt_when_waiting)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        device.read()
    interrupting.join()
    running.make("a")
    assert events(device.read()) == [CREATED]


# The daemon's end.


def test_a_killed_daemon_is_told_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with daemon_process(path) as daemon, Client(path) as client:
        device = client.init()
        with ThreadPoolExecutor() as threads:
            read, stream = threads.submit(device.read), threads.submit(next, device.stream())
            client.sync()
            daemon.kill()
            for waiting in (read, stream):
                with pytest.raises(ConnectionLost, match="is gone") as lost:
                    waiting.result(10)
                assert lost.value.errno == errno.ECONNRESET
        with pytest.raises(ConnectionLost):
            client.sync()
        device.close()
    # The process is reaped: its sockets close one after the other.
    with pytest.raises(ConnectionRefusedError, match="is dead"):
        Client(path)


def test_a_server_that_ends_is_told_at_once(running: Running, device: Device) -> None:
    running.stop()
    with pytest.raises(ConnectionLost, match=r"x\.sock is gone"):
        device.read()


def test_a_stopped_daemon_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusenotify.client.link.HELLO_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "x.sock"))
        silent.listen()
        with pytest.raises(TimeoutError, match="is it stopped"):
            Client(tmp_path / "x.sock")


def test_without_a_daemon_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="daemon running"):
        Client(tmp_path / "none.sock")
    with pytest.raises(OSError, match="107 bytes"):
        Client(tmp_path / ("x" * 107))


@pytest.mark.parametrize(
    ("answers", "error", "says"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", RemoteProtocolError, "announced", id="no server"),
        pytest.param(bytes(encode(Done(id=1))), RemoteProtocolError, "Done", id="no welcome"),
        pytest.param(
            bytes(
                encode(
                    Welcome(id=1, version=2, semantics="x", mountpoint=b"/", pid=1, server="it 2.0")
                )
            ),
            OSError,
            "it 2.0",
            id="another version",
        ),
        pytest.param(b"\0\0", ConnectionLost, "gone", id="a frame cut by death"),
    ],
)
def test_a_server_of_another_kind_is_refused(
    tmp_path: Path, answers: bytes, error: type[Exception], says: str
) -> None:
    path = str(tmp_path / "x.sock")

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answers)

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as threads:
        listener.bind(path)
        listener.listen()
        threads.submit(serve, listener)
        with pytest.raises(error, match=says):
            Client(path)
