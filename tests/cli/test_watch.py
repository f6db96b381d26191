# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify watch`` counts what inotifywatch counts, and prints it whatever ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.bits import IN_CREATE, IN_DELETE_SELF, IN_ISDIR, IN_MOVED_FROM, IN_MOVED_TO
from fusenotify.cli.counted import Counted
from fusenotify.cli.watching import Told
from fusenotify.client.events import InotifyEvent
from fusenotify.masks import Mask
from tests.cli.command import FUSENOTIFY, environment, fusenotify, until
from tests.conftest import Mounting

_SAID = "Establishing watches...\nFinished establishing watches, now collecting statistics.\n"


@contextmanager
def counting(
    *arguments: str | Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run ``fusenotify watch`` for a block, which starts when it counts."""
    with subprocess.Popen(
        [*FUSENOTIFY, "watch", *map(str, arguments)],
        env=environment() | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() + process.stderr.readline() == _SAID
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """Wait until it ends; return its output, the rest of its messages and its status."""
    out, err = process.communicate(timeout=30)
    return out, err, process.returncode


@pytest.mark.mount
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_events_before_the_signal_are_counted(mounted: Mounted, number: signal.Signals) -> None:
    root = mounted.mountpoint
    with counting("-e", "create", root) as process:
        process.send_signal(signal.SIGSTOP)
        for name in range(3000):
            os.mkdir(f"{root}/{name}")
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        table = f"total  create  filename\n3000   3000    {root}/\n"
        assert end(process) == (table, "", 0)


@pytest.mark.mount
def test_counts_are_printed_meanwhile(mounted: Mounted) -> None:
    root = mounted.mountpoint
    with counting("-e", "create,delete", root) as process, mounted.client() as client:
        process.send_signal(signal.SIGUSR1)
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == "No events occurred.\n"
        assert process.stdout.readline() == "\n"
        os.mkdir(f"{root}/a")
        client.sync()
        until(
            lambda: not any(each.queued for one in client.status().clients for each in one.devices),
            "it is read",
        )
        lines: list[str] = []
        while "1      1       " + root + "/\n" not in lines:  # it may be read, and not counted yet
            process.send_signal(signal.SIGUSR1)
            lines.append(process.stdout.readline())
        os.rmdir(f"{root}/a")
        process.terminate()
        out, _, status = end(process)
    assert out.endswith(f"total  create  delete  filename\n2      1       1       {root}/\n")
    assert status == 0


@pytest.mark.mount
def test_the_end_of_the_mount_is_the_end(mounting: Mounting) -> None:
    with mounting() as mount, counting("-e", "create,unmount", mount.mountpoint) as process:
        root = mount.mountpoint
        os.mkdir(f"{root}/a")
        assert fusenotify("unmount", root).returncode == 0
        table = f"total  create  unmount  filename\n3      1       1        {root}/\n"
        assert end(process) == (table, "Nothing is left to watch.\n", 0)


@pytest.mark.mount
def test_a_daemon_that_dies_is_status_1_after_the_counts(mounted: Mounted) -> None:
    root = mounted.mountpoint
    with counting("-e", "create", root) as process, mounted.client() as client:
        os.mkdir(f"{root}/a")
        client.sync()
        until(
            lambda: not any(each.queued for one in client.status().clients for each in one.devices),
            "it is read",
        )
        os.kill(mounted.pid, signal.SIGKILL)
        out, said, status = end(process)
    assert out == f"total  create  filename\n1      1       {root}/\n"
    assert said.startswith("fusenotify: ")
    assert status == 1


@pytest.mark.mount
def test_its_time_is_over_also_where_events_never_end(mounted: Mounted) -> None:
    root = mounted.mountpoint
    with (
        counting("-t", "1", root) as process,
        subprocess.Popen(["sh", "-c", "while :; do : > x; done"], cwd=root) as busy,
    ):
        try:
            out, said, status = end(process)
        finally:
            busy.kill()
    assert out.endswith(f"{root}/\n")
    assert (said, status) == ("", 0)


@pytest.mark.mount
def test_lost_events_are_said(mounting: Mounting) -> None:
    with mounting(max_queued_events=4) as mount, counting(mount.mountpoint) as process:
        process.send_signal(signal.SIGSTOP)
        for name in range(3000):
            os.mkdir(f"{mount.mountpoint}/{name}")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, said, status = end(process)
    assert said.startswith("Events were lost: ")
    assert status == 0


def test_before_it_counts_the_second_interruption_ends_it(tmp_path: Path) -> None:
    """A socket where nobody answers keeps it from counting."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with subprocess.Popen(
            [*FUSENOTIFY, "watch", tmp_path],
            env=environment() | {"FUSENOTIFY_SOCKET": str(tmp_path / "socket")},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = listener.accept()
            with connection:
                assert process.stderr is not None
                assert process.stderr.readline() == "Establishing watches...\n"
                process.send_signal(signal.SIGINT)
                assert process.stderr.readline().startswith("No statistics have been collected")
                assert process.stderr.readline().endswith("interrupt me again.\n")
                process.send_signal(signal.SIGINT)
                assert process.stderr.read() == (
                    "No statistics collected, asked to abort before all watches could be "
                    "established.\n"
                )
                assert process.wait(30) == 1


def told(way: bytes, mask: int, cookie: int = 0) -> Told:
    """Return an event in the tree t/."""
    above, _, name = way.rpartition(b"/")
    directory = b"t/" + above + b"/" * bool(above)
    return Told(b"t/", directory, name, InotifyEvent(1, Mask(mask), cookie, way or None, b""))


def test_a_row_goes_with_its_directory_and_all_below() -> None:
    counted = Counted(IN_CREATE, recursive=True)
    for path in (b"t/a/b/", b"t/a/", b"t/ab/", b"t/"):
        counted.add(path)
    counted.take(told(b"a/b/x", IN_CREATE))
    counted.take(told(b"a", IN_MOVED_FROM | IN_ISDIR, 7))
    counted.take(told(b"z", IN_MOVED_TO | IN_ISDIR, 7))
    counted.take(told(b"z/b/y", IN_CREATE))
    counted.take(told(b"ab/x", IN_CREATE))
    assert counted.table(0, ascending=False, zero=True).splitlines() == [
        b"total  create  filename",
        b"2      2       t/z/b/",
        b"1      1       t/ab/",
        b"0      0       t/z/",
        b"0      0       t/",
    ]


def test_a_row_goes_with_its_directory_whatever_does_not_count() -> None:
    counted = Counted(IN_CREATE, recursive=True)
    counted.add(b"t/a/")
    counted.take(told(b"a/x", IN_CREATE))
    counted.take(told(b"a", IN_MOVED_FROM | IN_ISDIR, 7), counts=False)
    counted.take(told(b"z", IN_MOVED_TO | IN_ISDIR, 7), counts=False)
    counted.take(told(b"new", IN_CREATE | IN_ISDIR), counts=False)
    counted.take(told(b"z/", IN_DELETE_SELF), counts=False)
    assert counted.table(0, ascending=False, zero=True).splitlines() == [
        b"total  create  filename",
        b"1      1       t/z/",
    ]


def test_a_directory_of_the_name_of_one_that_went_has_a_row_of_its_own() -> None:
    counted = Counted(IN_CREATE, recursive=True)
    counted.add(b"t/a/")
    counted.take(told(b"a/x", IN_CREATE))
    counted.take(told(b"a/", IN_DELETE_SELF))
    counted.take(told(b"a", IN_CREATE | IN_ISDIR))
    counted.take(told(b"a/x", IN_CREATE))
    assert counted.table(0, ascending=True, zero=False).splitlines() == [
        b"total  create  filename",
        b"1      1       t/",
        b"1      1       t/a/",
        b"2      1       t/a/",
    ]
