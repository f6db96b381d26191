# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree watch hears of directories that are deeper than any path."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from fusenotify.bits import IN_CREATE, IN_ISDIR, IN_MOVE, IN_MOVED_FROM, IN_MOVED_TO
from fusenotify.client import Device, Inotify
from fusenotify.events import Event, unpack
from tests.conftest import Mounting

DEPTH = 2000
NAME = "deep"

pytestmark = pytest.mark.mount


def run(code: str, top: str) -> None:
    """Run a program in a directory; it names things by one name at a time."""
    subprocess.run([sys.executable, "-c", f"import os\nos.chdir({top!r})\n{code}"], check=True)


def taken(device: Device) -> list[Event]:
    found: list[Event] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found += unpack(device.read(1 << 20))
    return found


def test_a_path_of_any_length_that_is_told_is_read_by_the_clients(mounting: Mounting) -> None:
    name = "n" * 250
    with mounting() as mount, Inotify() as inotify:
        inotify.add_watch(mount.mountpoint, IN_CREATE, tree=True)
        run(
            f"for _ in range(400):\n    os.mkdir({name!r})\n    os.chdir({name!r})\n",
            mount.mountpoint,
        )
        inotify.sync()
        found: list[int] = []
        while len(found) < 400:
            found += [len(event.name or b"") for event in inotify.read(5)]
        assert found == [251 * depth - 1 for depth in range(1, 401)]
        subprocess.run(["rm", "-rf", Path(mount.source) / name], check=True)


def test_two_thousand_directories_in_each_other(mounting: Mounting) -> None:
    with mounting() as mount, mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_CREATE | IN_MOVE, tree=True)
        run(
            f"for _ in range({DEPTH}):\n"
            f"    os.mkdir({NAME!r})\n"
            f"    os.chdir({NAME!r})\n"
            "os.mknod('f')\n"
            f"os.rename('{mount.mountpoint}/{NAME}', '{mount.mountpoint}/renamed')\n"
            "os.mknod('g')\n",
            mount.mountpoint,
        )
        client.sync()
        records = taken(device)
        path = b""
        for depth in range(DEPTH):
            path += b"/deep" if depth else b"deep"
            assert records[depth][1:] == (IN_CREATE | IN_ISDIR, 0, path)
        made, moved_from, moved_to, made_behind = records[DEPTH:]
        assert made[1:] == (IN_CREATE, 0, path + b"/f")
        assert (moved_from.mask, moved_from.name) == (IN_MOVED_FROM | IN_ISDIR, b"deep")
        assert (moved_to.mask, moved_to.name) == (IN_MOVED_TO | IN_ISDIR, b"renamed")
        assert made_behind[1:] == (IN_CREATE, 0, b"renamed" + path[4:] + b"/g")
        # pytest's own way of removing it is as deep as the tree.
        subprocess.run(["rm", "-rf", Path(mount.source) / "renamed"], check=True)
