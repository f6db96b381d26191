# SPDX-License-Identifier: GPL-2.0-or-later
"""Detailed events by all doors: who sees what of whom, renames, loss, reconnection, faults."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client, DetailedEvent, DetailedInotifyEvent, Device, Inotify, aio
from fusenotify.events import DETAILED_SIZE
from fusenotify.masks import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
)
from fusenotify.protocol.faults import Clear, Delay, Inject, Lose, Overflow
from fusenotify.protocol.messages import Init
from tests.client.running import Running
from tests.conftest import REPOSITORY, Mounting
from tests.differential.operations import RENAME_EXCHANGE, renameat2
from tests.server.acting import User, acting_as

ANN, BEN = User(1001, 101), User(1002, 102)
EVENTS_MANUAL = (REPOSITORY / "docs" / "reference" / "events.md").read_text()
PROTOCOL_MANUAL = (REPOSITORY / "docs" / "reference" / "protocol.md").read_text()
MASK = IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE


@pytest.fixture
def mount(mounting: Mounting) -> Iterator[Mounted]:
    with mounting(faults=True) as mount:
        yield mount


def told(inotify: Inotify[DetailedInotifyEvent]) -> list[DetailedInotifyEvent]:
    inotify.sync()
    return inotify.read(timeout=0)


def queued(client: Client, device: Device[tuple[DetailedEvent, ...]]) -> list[DetailedEvent]:
    client.sync()
    try:
        return list(device.read())
    except BlockingIOError:
        return []


# Who did it.


@pytest.mark.mount
def test_the_process_is_shown_to_root_the_daemons_user_and_its_own_user(public_path: Path) -> None:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
    top = public_path / "mnt"
    with (
        fusenotify.mounted(public_path / "source", top, options=["allow_other"]),
        contextlib.ExitStack() as closing,
    ):
        top.chmod(0o777)
        watching = []
        for user in (User(0, 0), ANN, BEN):
            with acting_as(user):
                inotify = closing.enter_context(Inotify(detailed=True))
                inotify.add_watch(top, MASK, tree=True)
            watching.append(inotify)
        before = time.time_ns()
        done = subprocess.run(
            ["sh", "-c", f"echo x > '{top}/file'; echo $$"],
            check=True,
            user=ANN.uid,
            group=ANN.gid,
            extra_groups=[],
            stdout=subprocess.PIPE,
        )
        seen = []
        for inotify in watching:
            events = told(inotify)
            assert [event.mask for event in events] == [IN_CREATE, IN_MODIFY, IN_CLOSE_WRITE]
            assert {event.path for event in events} == {str(top / "file")}
            assert before < events[0].time < events[-1].time < time.time_ns()
            seen.append({(event.pid, event.uid, event.gid, event.command) for event in events})
    known = {(int(done.stdout), ANN.uid, ANN.gid, "sh")}
    assert seen == [known, known, {(None, None, None, None)}]


@pytest.mark.mount
def test_threads_count_for_their_process_also_when_they_ended(mount: Mounted) -> None:
    top = Path(mount.mountpoint)
    with Inotify(detailed=True) as inotify:
        inotify.add_watch(top, MASK)
        opened = []
        thread = threading.Thread(target=lambda: opened.append((top / "file").open("wb", 0)))
        thread.start()
        thread.join()
        with opened[0] as file:
            file.write(b"x")
        events = told(inotify)
    assert [event.mask for event in events] == [IN_CREATE, IN_MODIFY, IN_CLOSE_WRITE]
    assert {event.pid for event in events} == {os.getpid()}


@pytest.mark.mount
def test_a_process_that_runs_another_program_is_called_by_that(mount: Mounted) -> None:
    top = mount.mountpoint
    with Inotify(detailed=True) as inotify:
        inotify.add_watch(top, IN_CREATE)
        script = f"echo x > {top}/shell; exec touch {top}/touched"
        subprocess.run(["sh", "-c", script], check=True)
        shell, touched = told(inotify)
    assert (shell.command, touched.command) == ("sh", "touch")
    assert shell.pid == touched.pid


@pytest.mark.mount
def test_a_file_that_a_thread_opened_before_anybody_asked_has_no_known_process(
    mount: Mounted,
) -> None:
    top = Path(mount.mountpoint)
    opened = []
    thread = threading.Thread(target=lambda: opened.append((top / "file").open("wb", 0)))
    thread.start()
    thread.join()
    with opened[0] as file, Inotify(detailed=True) as inotify:
        inotify.add_watch(top, IN_MODIFY)
        file.write(b"x")
        (event,) = told(inotify)
    assert (event.pid, event.command, event.uid) == (None, None, 0)


# Renames.


@pytest.mark.mount
def test_renames(mount: Mounted) -> None:
    top = Path(mount.mountpoint)
    for name in ("in/a", "in/b", "out"):
        (top / name).mkdir(parents=True)
    for name in ("in/a/f", "in/b/g", "in/x", "out/o"):
        (top / name).touch()
    with Inotify(detailed=True) as inotify:
        # As it was given, a path is shown.
        watched = os.path.relpath(top / "in")
        inotify.add_watch(watched, IN_MOVE, tree=True)
        (top / "in/a/f").rename(top / "in/b/h")
        (top / "in/b/h").rename(top / "in/b/g")  # over a file
        renameat2(top / "in/a", top / "in/x", RENAME_EXCHANGE)
        (top / "in/b/g").rename(top / "out/g")
        (top / "out/o").rename(top / "in/o")
        events = told(inotify)
    told_of = [(e.mask, e.name, e.old_path) for e in events]
    assert told_of == [
        (IN_MOVED_TO, "b/h", f"{watched}/a/f"),
        (IN_MOVED_TO, "b/g", f"{watched}/b/h"),
        (IN_MOVED_TO | IN_ISDIR, "x", f"{watched}/a"),
        (IN_MOVED_TO, "a", f"{watched}/x"),
        (IN_MOVED_FROM, "b/g", None),
        (IN_MOVED_TO, "o", None),
    ]
    assert all(e.path == f"{watched}/" + (e.name or "") for e in events)
    numbers = [event.sequence for event in events]
    assert numbers == sorted(set(numbers))


# Loss, and reading.


def test_an_overflow_says_how_much_and_between_which(running: Running, client: Client) -> None:
    device = client.init(nonblock=True, max_queued_events=2, detailed=True)
    device.add_watch("/", IN_CREATE)
    running.make(*"abcdef")
    assert client.status().clients[0].devices[0].detailed
    a, b, overflow = device.read()
    assert (a.path, b.path, overflow.mask, overflow.lost) == (b"a", b"b", IN_Q_OVERFLOW, 4)
    running.make("g")
    (g,) = device.read()
    assert a.sequence < b.sequence < overflow.sequence
    assert g.sequence == overflow.sequence + 4


def test_reads_give_whole_events_that_fit(running: Running, client: Client) -> None:
    device = client.init(nonblock=True, detailed=True)
    device.add_watch("/", IN_CREATE)
    with pytest.raises(BlockingIOError):
        device.read()
    assert not device.poll(timeout=0)
    running.make("a", "b", "c")
    assert (device.fionread(), device.poll()) == (3 * (DETAILED_SIZE + 1), True)
    with pytest.raises(OSError, match="first event takes") as refusal:
        device.read(DETAILED_SIZE)
    assert refusal.value.errno == errno.EINVAL
    assert [event.path for event in device.read(2 * DETAILED_SIZE + 2)] == [b"a", b"b"]
    stream = device.stream(DETAILED_SIZE + 1)
    assert [event.path for event in next(stream)] == [b"c"]
    running.make("d", "e")
    assert [event.path for event in next(stream)] == [b"d"]
    stream.close()
    assert device.poll(timeout=5)
    assert device.fionread() == DETAILED_SIZE + 1
    assert [event.path for event in device.read()] == [b"e"]


def test_events_that_came_for_a_read_that_was_given_up_stay(
    running: Running, client: Client
) -> None:
    device = client.init(detailed=True)
    device.add_watch("/", IN_CREATE)
    stream = device.stream()
    running.make("a")
    assert [event.path for event in next(stream)] == [b"a"]
    running.make("b", "c")
    client.sync()
    stream.close()
    got: list[bytes | None] = []
    while len(got) < 2:
        got += [event.path for event in device.read(DETAILED_SIZE + 1)]
    assert got == [b"b", b"c"]


def test_no_event_takes_more_in_a_message_than_of_a_read() -> None:
    path = b"p" * 100_000
    most = DetailedEvent(
        sequence=2**64 - 1,
        time=2**63,
        wd=-(2**31),
        mask=2**32 - 1,
        cookie=2**32 - 1,
        path=path,
        is_dir=True,
        old_path=path,
        pid=2**32 - 1,
        uid=2**32 - 1,
        gid=2**32 - 1,
        command=b"c" * 32,
        lost=2**63,
    )
    assert len(msgspec.msgpack.encode(most)) <= most.size


def test_the_manuals_name_every_field() -> None:
    for field in DetailedEvent.__struct_fields__:
        assert f"`{field}`" in EVENTS_MANUAL
        assert f"`{field}`" in PROTOCOL_MANUAL
    assert {*DetailedEvent.__struct_fields__} - {"path"} < {*DetailedInotifyEvent._fields}
    assert f" {DETAILED_SIZE} bytes" in PROTOCOL_MANUAL


def test_clients_without_details_ask_as_before(running: Running) -> None:
    assert set(msgspec.msgpack.decode(msgspec.msgpack.encode(Init(id=1)))) == {"type", "id"}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_clients(running: Running, backend: str) -> None:
    async def test() -> None:
        async with aio.Client(running.socket) as client:
            device = await client.init(nonblock=True, detailed=True)
            await device.add_watch("/", IN_CREATE)
            running.make("a", "b")
            assert [event.path for event in await device.read(DETAILED_SIZE + 1)] == [b"a"]
            async with contextlib.aclosing(device.stream()) as stream:
                (event,) = await anext(stream)
            assert (event.path, event.uid) == (b"b", None)

    anyio.run(test, backend=backend)


@pytest.mark.mount
def test_the_async_inotify(mount: Mounted) -> None:
    async def test() -> None:
        async with aio.Inotify(detailed=True) as inotify:
            await inotify.add_watch(mount.mountpoint, IN_CREATE)
            (Path(mount.mountpoint) / "a").touch()
            (event,) = await inotify.read()
            assert (event.name, event.pid, event.lost) == ("a", os.getpid(), None)

    anyio.run(test)


# Another daemon, and faults.


@pytest.mark.mount
def test_reconnection(mounting: Mounting) -> None:
    with Inotify(detailed=True, reconnect=True) as inotify:
        with mounting() as mount:
            top = Path(mount.mountpoint)
            (top / "d").mkdir()
            kept = inotify.add_watch(top, IN_CREATE)
            gone = inotify.add_watch(top / "d", IN_CREATE)
            (top / "d").rmdir()
            assert [event.mask for event in told(inotify)] == [IN_IGNORED]
            (top / "e").mkdir()
            gone = inotify.add_watch(top / "e", IN_CREATE)
            told(inotify)
        os.rmdir(Path(mount.source) / "e")
        with mounting() as mount:
            events: list[DetailedInotifyEvent] = []
            while not any(event.mask & IN_IGNORED for event in events):
                events += inotify.read(timeout=5.0)
            overflow, ignored = events[-2:]
            assert (overflow.mask, overflow.lost, overflow.sequence) == (IN_Q_OVERFLOW, None, 0)
            assert (ignored.wd, ignored.mask) == (gone, IN_IGNORED)
            (top / "f").touch()
            (event,) = told(inotify)
            assert (event.wd, event.name, event.pid) == (kept, "f", os.getpid())


@pytest.mark.mount
def test_faults(mount: Mounted) -> None:
    top = Path(mount.mountpoint)
    with mount.client() as tester, mount.client() as client:
        device = client.init(nonblock=True, detailed=True)
        wd = device.add_watch("/", IN_CREATE | IN_MOVE)

        def cause(fault: Overflow | Inject | Lose | Delay | Clear) -> None:
            tester.fault(fault, device.number)

        (top / "a").touch()
        cause(Inject(wd, IN_CREATE | IN_ISDIR, 0, b"never"))
        made, injected = queued(client, device)
        assert (injected.path, injected.is_dir, injected.pid) == (b"never", True, None)
        assert injected.sequence > made.sequence
        cause(Inject(wd, IN_MOVED_FROM, 7, b"x"))
        cause(Inject(wd, IN_MOVED_TO, 7, b"y"))
        assert [(e.old_path, e.path) for e in queued(client, device)] == [(b"x", b"y")]
        cause(Inject(wd, IN_CREATE, 0, None))
        cause(Overflow())
        for name in "bcd":
            (top / name).touch()
        injected, overflow = queued(client, device)
        assert (injected.path, overflow.lost) == (None, 3)
        cause(Lose(1))
        cause(Delay(3600))
        for name in "ef":
            (top / name).touch()
        assert (queued(client, device), device.fionread()) == ([], 0)
        cause(Clear())
        assert [event.path for event in queued(client, device)] == [b"f"]
