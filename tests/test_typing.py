# SPDX-License-Identifier: GPL-2.0-or-later
"""``mypy --strict`` in a user's project sees our types, also of an editable installation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# What mypy says of a line is behind it.
PROGRAM = """
import asyncio
import select
from pathlib import Path
from typing import Any

import fusenotify
from fusenotify.client import Client, DetailedInotifyEvent, Inotify, InotifyEvent, aio
from fusenotify.masks import IN_CREATE, IN_DELETE, Mask
from fusenotify.testing import MountDevice, assert_events


def text(place: Path) -> None:
    with Inotify() as inotify:
        inotify.add_watch(place, IN_CREATE | IN_DELETE)
        inotify.add_watch("/mnt/x", "CREATE|DELETE", tree=True, exclude=["*.o"])
        inotify.add_watch("/mnt/x", ["create", IN_DELETE])
        select.select([inotify], [], [], 1.0)
        for event in inotify:
            reveal_type(event.path)  # str
            reveal_type(event.name)  # str | None
            reveal_type(event.mask)  # fusenotify.masks.Mask
            reveal_type(event.mask & IN_CREATE)  # fusenotify.masks.Mask
        inotify.add_watch(b"/mnt/x", IN_CREATE)  # "add_watch" of "Inotify" has incompatible type
        inotify.add_watch("/mnt/x", 1.5)  # "add_watch" of "Inotify" has incompatible type
        inotify.read("1")  # Argument 1 to "read" of "Inotify" has incompatible type


def raw_names() -> None:
    inotify: Inotify[InotifyEvent[bytes]] = Inotify()
    inotify.add_watch(b"/mnt/x", IN_CREATE)
    for event in inotify.events(timeout=1.0):
        reveal_type(event.path)  # bytes


def mixed() -> None:
    inotify: Inotify[InotifyEvent[Any]] = Inotify(reconnect=True)
    inotify.add_watch(b"/mnt/x", IN_CREATE)
    inotify.add_watch("/mnt/x", IN_CREATE)


def whole(inotify: Inotify[DetailedInotifyEvent]) -> None:
    for event in inotify.read(timeout=1.0):
        reveal_type(event.old_path)  # str | None
        reveal_type(event.command)  # str | None


def detailed() -> None:
    with Inotify(detailed=True) as inotify:
        whole(inotify)


async def waiting() -> None:
    async with aio.Inotify() as inotify:
        await inotify.add_watch("/mnt/x", "CREATE")
        async for event in inotify:
            reveal_type(event.path)  # str


def syscalls(socket: Path) -> None:
    with Client(socket) as client, client.init() as device:
        device.add_watch(b"docs", "CREATE")
        reveal_type(device.read())  # bytes
        reveal_type(device.fileno())  # int


def test_it(fusenotify_device: MountDevice) -> None:
    fusenotify_device.watch(".", ["CREATE"])
    assert_events(fusenotify_device, ["CREATE a"])


with fusenotify.mounted("source", "mnt") as mount:
    reveal_type(mount.mountpoint)  # str
asyncio.run(waiting())
"""


def installed_here() -> bool:
    try:
        told = distribution("fusenotify").read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    return bool(told) and json.loads(told or "").get("dir_info", {}).get("editable", False)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user's project, in which nothing but the installation leads to ours."""
    for name in ("MYPYPATH", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    if not installed_here():
        monkeypatch.setenv("MYPYPATH", os.fspath(REPOSITORY))
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def test_mypy_sees_the_types(outside: Path) -> None:
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--no-error-summary", "program.py"]
    done = subprocess.run(command, cwd=outside, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    # Of its notes those about types; others explain an error.
    said = dict(re.findall(r"^program.py:(\d+): (?!note: [^R])(.*)", done.stdout, re.MULTILINE))
    expected = {
        f"{number}": line.rpartition("  # ")[2]
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "  # " in line
    }
    assert said.keys() == expected.keys(), done.stdout
    for number, meant in expected.items():
        revealed = re.fullmatch('note: Revealed type is "(.*)"', said[number])
        if revealed:
            assert revealed[1].replace("builtins.", "") == meant
        else:
            assert meant in said[number]
