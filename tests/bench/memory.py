# SPDX-License-Identifier: GPL-2.0-or-later
"""The part "memory": what a watch, a queued record and a known inode take.

tests.bench.__main__ calls measure(), which runs this module as a program for
what the engine alone keeps, and looks at daemons for the rest.  What is
counted is what a process has of the machine (RssAnon), over many objects.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

import fusenotify
from fusenotify.bits import IN_ALL_EVENTS, IN_CREATE
from fusenotify.credentials import Credentials
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_6
from tests.bench.compared import Settings
from tests.bench.filesystems import PROJECT
from tests.bench.targets import Target

OBJECTS = 200_000
KNOWN_FILES = 50_000
MILLION = 1_000  # devices, and as many files
WATCH, RECORD, INODE = "a watch, alone on its object", "a queued record", "a known inode"
DETAILED = "a queued detailed event"
SHARED = "a watch of many on one object"
BOUNDS = {WATCH: 300, SHARED: 300, RECORD: 150, DETAILED: 450, INODE: 600}  # bytes


def rss(pid: int | str = "self") -> int:
    """Return the bytes of a process's own memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def engine_bytes() -> dict[str, float]:
    """Return bytes per object of the engine, with a table and devices as a daemon has them."""
    table = DeviceTable(Core(), Limits(OBJECTS, OBJECTS, 2 * OBJECTS), LINUX_6)
    device = table.init(uid=0)
    inodes = [Inode(is_dir=False) for _ in range(OBJECTS)]
    before = rss()
    for inode in inodes:
        device.add_watch(inode, IN_ALL_EVENTS)
    watches = rss() - before
    watched = Inode(is_dir=True)
    device.add_watch(watched, IN_ALL_EVENTS)
    before = rss()
    for number in range(OBJECTS):
        table.core.queue_event(watched, IN_CREATE, 0, b"file-%07d" % number)
    records = rss() - before
    assert device.queued() == OBJECTS
    return {
        WATCH: watches / OBJECTS,
        RECORD: records / OBJECTS,
        DETAILED: detailed_event_bytes(table),
    }


def detailed_event_bytes(table: DeviceTable) -> float:
    """Return bytes of an event in a detailed device's queue, each by another process."""
    core = table.core
    core.details.command_of = b"command-%06d".__mod__
    detailed = table.init_detailed(uid=0)
    watched = Inode(is_dir=True)
    detailed.add_watch(watched, IN_ALL_EVENTS)
    before = rss()
    for number in range(OBJECTS):
        core.actor = Credentials(number + 1, 0, 0)
        core.queue_event(watched, IN_CREATE, 0, b"file-%07d" % number)
    assert detailed.queued() == OBJECTS
    return (rss() - before) / OBJECTS


@contextlib.contextmanager
def mounted(**settings: Any) -> Iterator[fusenotify.Mounted]:
    """Mount an empty directory for a measurement."""
    with tempfile.TemporaryDirectory(prefix="fusenotify-bench-") as top:
        source, mountpoint = Path(top, "source"), Path(top, "mnt")
        source.mkdir()
        mountpoint.mkdir()
        with fusenotify.mounted(source, mountpoint, **settings) as mount:
            yield mount


def make_files(directory: str, count: int) -> list[str]:
    """Make empty files, and return their names."""
    names = [f"file-{number:07}" for number in range(count)]
    for name in names:
        Path(directory, name).touch()
    return names


def inode_bytes(count: int) -> float:
    """Return bytes per file that the kernel knows, in a daemon."""
    with mounted() as mount:
        names = make_files(mount.source, count)
        os.stat(mount.mountpoint)
        before = rss(mount.pid)
        for name in names:
            os.stat(os.path.join(mount.mountpoint, name))
        return (rss(mount.pid) - before) / count


def many_watches(side: int) -> tuple[int, float]:
    """Return how many watches one daemon has after side devices watched side files each.

    And the bytes that one takes there.
    """
    limits = {"max_user_instances": side + 1, "max_user_watches": side * side}
    with mounted(**limits) as mount, mount.client() as client:
        names = make_files(mount.source, side)
        devices = [client.init() for _ in range(side)]
        for name in names:
            devices[0].add_watch(name, IN_ALL_EVENTS)
        before = rss(mount.pid)
        for device in devices[1:]:
            for name in names:
                device.add_watch(name, IN_ALL_EVENTS)
        grown = rss(mount.pid) - before
        return sum(user.watches for user in client.status().users), grown / (side * (side - 1))


def measure(settings: Settings, console: Console) -> list[Target]:
    """Return the targets.  Memory does not vary as time does: each is taken once."""
    side = 100 if settings.quick else MILLION
    with console.status("memory"):
        output = subprocess.run(
            [sys.executable, "-m", __name__], cwd=PROJECT, stdout=subprocess.PIPE, check=True
        ).stdout
        taken: dict[str, float] = json.loads(output)
        taken[INODE] = inode_bytes(KNOWN_FILES // 10 if settings.quick else KNOWN_FILES)
        watches, taken[SHARED] = many_watches(side)
    return [
        *(
            Target(f"memory: {what}", "anonymous memory", bound, taken[what], "bytes")
            for what, bound in BOUNDS.items()
        ),
        Target("memory: one daemon", "its watches", side * side, watches, "watches", True),
    ]


def main() -> None:
    json.dump(engine_bytes(), sys.stdout)


if __name__ == "__main__":
    main()
