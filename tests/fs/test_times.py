# SPDX-License-Identifier: GPL-2.0-or-later
"""A time that a program sets stays, whatever was stored to a mapping before."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.events import unpack
from fusenotify.masks import IN_ACCESS, IN_ALL_EVENTS, IN_ATTRIB, IN_MODIFY
from tests.cli.command import until
from tests.conftest import Mounting

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has stores written back"),
]

PAST = 1_000_000_000
SIZE = 16 * mmap.PAGESIZE

# Fills a mapping and sets the time, until that fails.
_PROGRAM = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(fd, 0)
print("ready", flush=True)
try:
    while True:
        view[:] = os.urandom(1) * len(view)
        os.utime(fd, (1, 1))
except OSError:
    os._exit(0)
"""


def by_descriptor(path: Path) -> None:
    with open(path, "rb") as file:
        os.utime(file.fileno(), (PAST, PAST))


def touch(path: Path) -> None:
    reference = path.with_name("reference")
    reference.touch()
    os.utime(reference, (PAST, PAST))
    subprocess.run(["touch", "-r", reference, path], check=True)


def copy_times(path: Path) -> None:
    reference = path.with_name("reference")
    reference.touch()
    os.utime(reference, (PAST, PAST))
    subprocess.run(
        ["cp", "--attributes-only", "--preserve=timestamps", reference, path], check=True
    )


@pytest.fixture(params=["native", "mount"])
def top(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where it is tried: what Linux does is what the mount does."""
    if request.param == "native":
        return tmp_path
    mounted: Mounted = request.getfixturevalue("mounted")
    return Path(mounted.mountpoint)


@pytest.mark.parametrize("closes", ["before", "after"])
@pytest.mark.parametrize(
    "set_times",
    [
        pytest.param(lambda path: os.utime(path, (PAST, PAST)), id="by path"),
        pytest.param(by_descriptor, id="by another descriptor"),
        pytest.param(touch, id="touch -r"),
        pytest.param(copy_times, id="cp --preserve"),
    ],
)
def test_a_set_time_survives_earlier_stores(
    top: Path, set_times: Callable[[Path], None], closes: str
) -> None:
    path = top / "f"
    path.write_bytes(b"." * SIZE)
    fd = os.open(path, os.O_RDWR)
    view = mmap.mmap(fd, SIZE)
    if closes == "before":
        os.close(fd)
    view[5000:5003] = b"new"
    set_times(path)
    view.close()
    if closes == "after":
        os.close(fd)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    assert path.stat().st_mtime == PAST
    assert path.read_bytes()[5000:5003] == b"new"


def test_watchers_get_events_of_the_stores_and_of_the_time(mounted: Mounted) -> None:
    path = Path(mounted.mountpoint, "f")
    path.write_bytes(b"." * SIZE)
    with ExitStack() as closing, mounted.client() as client:
        fd = os.open(path, os.O_RDWR)
        closing.callback(os.close, fd)
        view = mmap.mmap(fd, SIZE)
        closing.callback(view.close)
        device = client.init(nonblock=True)
        device.add_watch("/", IN_ALL_EVENTS & ~IN_ACCESS)  # which looking at a page is
        view[:3] = b"new"
        os.utime(path, (PAST, PAST))
        client.sync()
        heard = [(event.mask, event.name) for event in unpack(device.read(4096))]
    assert heard == [(IN_MODIFY, b"f"), (IN_ATTRIB, b"f")]


def test_many_set_times_at_once(mounted: Mounted) -> None:
    paths = [Path(mounted.mountpoint, str(number)) for number in range(30)]

    def work(path: Path) -> None:
        path.write_bytes(b"." * SIZE)
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), SIZE) as view:
            for number in range(10):
                view[number * 100 : number * 100 + 3] = b"new"
                os.utime(path, (PAST, PAST))

    threads = [threading.Thread(target=work, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [path.stat().st_mtime for path in paths] == [PAST] * len(paths)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked to end"])
def test_nobody_waits_for_a_daemon_that_ended_meanwhile(
    mounting: Mounting, end: signal.Signals
) -> None:
    for pause in (0.03, 0.05):
        with mounting() as mount, ExitStack() as closing:
            path = Path(mount.mountpoint, "f")
            path.write_bytes(b"." * (4 << 20))
            command = [sys.executable, "-c", _PROGRAM, str(path)]
            program = subprocess.Popen(command, stdout=subprocess.PIPE)
            closing.enter_context(program)
            closing.callback(program.kill)
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
            threading.Event().wait(pause)  # into its work, somewhere
            (helper,) = children(mount.pid)
            os.kill(mount.pid, end)
            program.wait(10)
            until(partial(is_gone, helper), "the helper ends")
