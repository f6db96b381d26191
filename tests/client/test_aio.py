# SPDX-License-Identifier: GPL-2.0-or-later
"""The async client does what the blocking one does, on asyncio and on trio."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from fusenotify.client.aio import Client, ConnectionLost, Device, Inotify, InotifyEvent
from fusenotify.client.locate import SOCKET_VARIABLE
from fusenotify.events import Event, unpack
from fusenotify.masks import IN_ALL_EVENTS, IN_CREATE, IN_DONT_FOLLOW, IN_IGNORED, IN_Q_OVERFLOW
from tests.client.running import Running, daemon_process

CREATED = Event(1, IN_CREATE, 0, b"a")

Test = Callable[[], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Run an async function on each event loop, and not for ever."""

    async def in_time(test: Test) -> None:
        with anyio.fail_after(10):
            await test()

    return lambda test: anyio.run(in_time, test, backend=request.param)


@pytest.fixture
def mountpoint(tmp_path: Path) -> bytes:
    (tmp_path / "docs").mkdir()
    (tmp_path / "link").symlink_to("docs")
    return os.fsencode(tmp_path.resolve())


def events(records: bytes) -> list[Event]:
    return list(unpack(records))


@contextlib.asynccontextmanager
async def watching(running: Running) -> AsyncGenerator[tuple[Client, Device], None]:
    """Give a client, and a device that watches the root."""
    async with Client(running.socket) as client:
        device = await client.init()
        await device.add_watch("/", IN_ALL_EVENTS)
        yield client, device


async def refusal(awaitable: Awaitable[object]) -> str:
    with pytest.raises(OSError) as refused:  # noqa: PT011  (the caller looks at the errno)
        await awaitable
    assert refused.value.errno is not None
    return errno.errorcode[refused.value.errno]


def test_the_syscalls(running: Running, mountpoint: bytes, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with Client(running.socket) as client, await client.init() as device:
            assert (client.semantics, client.mountpoint) == ("linux-6", mountpoint)
            assert (client.pid, client.server[:10]) == (os.getpid(), "fusenotify")
            wd = await device.add_watch(Path("docs"), IN_CREATE)
            running.make("docs/a")
            await client.sync()
            assert await device.poll(timeout=0)
            assert await device.fionread() == 32
            assert events(await device.read(4096)) == [Event(wd, IN_CREATE, 0, b"a")]
            await device.rm_watch(wd)
            assert events(await device.read(4096)) == [Event(wd, IN_IGNORED)]
            assert not await device.poll(timeout=0.01)
            await device.close()
            assert (await client.status()).clients[0].devices == []

    running.make("docs", directory=True)
    run(test)


def test_limits_are_asked_for_and_set(running: Running, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with Client(running.socket) as client:
            assert (await client.limits()).max_user_trees == 128
            assert (await client.set_limits(max_user_trees=3)).max_user_trees == 3
            assert (await client.status()).limits == await client.limits()
            assert await refusal(client.set_limits(max_user_trees=-1)) == "EINVAL"

    run(test)


def test_options_of_a_device(running: Running, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with Client(running.socket) as client:
            device = await client.init(nonblock=True, max_queued_events=1, semantics="linux-2.6.18")
            with pytest.raises(BlockingIOError):
                await device.read()
            await device.add_watch("/", IN_ALL_EVENTS)
            running.make("a", "b", "c")
            assert await device.read(16) == b""
            masks = [event.mask for event in events(await device.read())]
            assert masks == [IN_CREATE, IN_Q_OVERFLOW]

    run(test)


def test_refusals_have_the_kernels_errno(running: Running, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with watching(running) as (client, device):
            assert await refusal(device.add_watch("/", 0)) == "EINVAL"
            assert await refusal(device.add_watch("/none", IN_CREATE)) == "ENOENT"
            assert await refusal(device.rm_watch(77)) == "EINVAL"
            assert await refusal(device.read(timeout=0.01)) == "EAGAIN"
            assert await refusal(client.init(semantics="linux-7")) == "EINVAL"
            await device.close()
            assert await refusal(device.read()) == "EBADF"
        assert await refusal(client.sync()) == "EBADF"
        await device.close()
        assert await refusal(Client(running.socket).sync()) == "ENOTCONN"

    run(test)


def test_tasks_share_a_client(running: Running, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        received: list[bytes] = []

        async def read(device: Device) -> None:
            received.append(await device.read())

        async with Client(running.socket) as client, anyio.create_task_group() as tasks:
            for _ in range(8):
                device = await client.init()
                await device.add_watch("/", IN_ALL_EVENTS)
                tasks.start_soon(read, device)
            await anyio.to_thread.run_sync(running.settle)
            await client.sync()
            running.make("a")
        assert [events(records) for records in received] == [[CREATED]] * 8

    run(test)


def test_a_cancelled_read_loses_no_event(running: Running, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with watching(running) as (_, device):
            names = []
            for number in range(200):
                with anyio.move_on_after(0.0005):
                    names += [event.name for event in events(await device.read())]
                running.make(str(number))
            while len(names) < 200:
                names += [event.name for event in events(await device.read())]
            assert names == [b"%d" % number for number in range(200)]

    run(test)


def test_when_the_receiving_task_is_cancelled_another_receives(
    running: Running, run: Callable[[Test], None]
) -> None:
    async def test() -> None:
        async with watching(running) as (client, leader):
            follower = await client.init()
            await follower.add_watch("/", IN_ALL_EVENTS)
            received: list[bytes] = []

            async def lead(scope: anyio.CancelScope) -> None:
                with scope:
                    await leader.read()

            async def follow() -> None:
                received.append(await follower.read())

            scope = anyio.CancelScope()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lead, scope)
                await anyio.to_thread.run_sync(running.settle)
                tasks.start_soon(follow)
                await anyio.to_thread.run_sync(running.settle)
                scope.cancel()
                running.make("a")
            assert [events(records) for records in received] == [[CREATED]]
            assert events(await leader.read()) == [CREATED]

    run(test)


def test_a_stream_yields_events_as_they_come(running: Running, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with watching(running) as (_, device):
            names: list[bytes | None] = []
            running.make(*(str(number) for number in range(100)))
            async with contextlib.aclosing(device.stream(size=64)) as stream:
                async for records in stream:
                    names += [event.name for event in events(records)]
                    if len(names) >= 10:
                        break
            while len(names) < 100:
                names += [event.name for event in events(await device.read())]
            assert names == [b"%d" % number for number in range(100)]

    run(test)


def test_closing_the_client_ends_a_read(running: Running, run: Callable[[Test], None]) -> None:
    async def test() -> None:
        refusals: list[str] = []

        async def read(device: Device) -> None:
            refusals.append(await refusal(device.read()))

        async with watching(running) as (client, device), anyio.create_task_group() as tasks:
            tasks.start_soon(read, device)
            await anyio.to_thread.run_sync(running.settle)
            await client.close()
        assert refusals == ["EBADF"]

    run(test)


def test_a_killed_daemon_is_told_at_once(tmp_path: Path, run: Callable[[Test], None]) -> None:
    path = str(tmp_path / "x.sock")

    async def test() -> None:
        async with Client(path) as client:
            device = await client.init()
            daemon.kill()
            with pytest.raises(ConnectionLost, match="is gone"):
                await device.read()
            with pytest.raises(ConnectionLost):
                await client.sync()
            await device.close()
        daemon.wait(10)  # its sockets close one after the other
        with pytest.raises(ConnectionRefusedError, match="is dead"):
            await Client(path).connect()

    with daemon_process(path) as daemon:
        run(test)


def test_a_stopped_daemon_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[Test], None]
) -> None:
    monkeypatch.setattr("fusenotify.client.aio.syscalls.HELLO_SECONDS", 0.05)

    async def test() -> None:
        with pytest.raises(TimeoutError, match="is it stopped"):
            await Client(tmp_path / "x.sock").connect()
        with pytest.raises(FileNotFoundError, match="daemon running"):
            await Client(tmp_path / "none.sock").connect()

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "x.sock"))
        silent.listen()
        run(test)


def test_tree_watches(
    running: Running,
    mountpoint: bytes,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Test], None],
) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, running.socket)
    place = os.fsdecode(mountpoint)
    running.make("docs", directory=True)
    running.make("docs/a", directory=True)

    async def test() -> None:
        async with Client(running.socket) as client:
            device = await client.init()
            wd = await device.add_watch("/", IN_CREATE, tree=True)
            running.make("docs/a/b")
            await client.sync()
            assert [*unpack(await device.read())] == [Event(wd, IN_CREATE, 0, b"docs/a/b")]
        async with Inotify() as inotify:
            wd = await inotify.add_watch(place + "/docs", IN_CREATE, tree=True)
            running.make("docs/a/c")
            await inotify.sync()
            assert await inotify.read() == [
                InotifyEvent(wd, IN_CREATE, 0, "a/c", place + "/docs/a/c")
            ]
        running.do(running.tree.remove, "docs/a/b")
        running.do(running.tree.remove, "docs/a/c")

    run(test)


def test_inotify_takes_ordinary_paths(
    running: Running,
    mountpoint: bytes,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Test], None],
) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, running.socket)
    place = os.fsdecode(mountpoint)
    running.make("docs", directory=True)
    running.make("link", target=b"docs")

    async def test() -> None:
        async with Inotify() as inotify:
            await inotify.sync()
            assert await refusal(inotify.read()) == "EINVAL"
            wd = await inotify.add_watch(place + "/link", IN_CREATE)
            other = await inotify.add_watch(place + "/link", IN_ALL_EVENTS | IN_DONT_FOLLOW)
            assert other != wd
            assert await inotify.read(timeout=0.01) == []
            running.make("docs/a")
            await inotify.sync()
            assert await inotify.read() == [InotifyEvent(wd, IN_CREATE, 0, "a", place + "/link/a")]
            await inotify.rm_watch(wd)
            assert [event.mask for event in await inotify.read()] == [IN_IGNORED]
            assert await refusal(inotify.add_watch("/etc", IN_CREATE)) == "EXDEV"
            assert await refusal(inotify.add_watch(place + "/x", IN_CREATE)) == "ENOENT"
        assert await refusal(inotify.read()) == "EBADF"
        running.do(running.tree.remove, "docs/a")

    run(test)
