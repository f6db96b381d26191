# SPDX-License-Identifier: GPL-2.0-or-later
"""The part "engine": what an event costs without a filesystem, a server or a client.

tests.bench.__main__ calls measure(), which runs this module as a program once
per round; it prints a JSON object of seconds per event.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from itertools import repeat
from threading import Event
from time import perf_counter

from rich.console import Console

from fusenotify.bits import IN_ALL_EVENTS, IN_CREATE, IN_DELETE
from fusenotify.credentials import Credentials, Process
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.device import AnyDevice, DeviceTable
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_6
from fusenotify.history.bounds import Bounds
from fusenotify.history.journal import Journal
from fusenotify.history.store import Store
from tests.bench.compared import Settings
from tests.bench.filesystems import PROJECT
from tests.bench.results import Results
from tests.bench.targets import Target

EVENTS = 5000  # a batch: pairs of events, fewer than a queue holds
BATCHES = 40
ENGINE = "the engine"
ONE, NONE = "an event to one watching device", "an event that nobody watches"
DETAILED = "an event to one detailed device"
BELOW = "an event five directories below one tree watch"
BESIDE = "an event that nobody watches, beside a tree watch"
KEPT = "an event that a journal keeps, until it is written"
BOUNDS = {KEPT: 10.0, ONE: 1.5, DETAILED: 3.0, NONE: 0.15, BELOW: 2.25, BESIDE: 0.3}  # microseconds


def seconds_per_event(what: str) -> float:
    """Return what queue_event() takes; two events take turns, so that none merges."""
    core = Core()
    table, root = DeviceTable(core, Limits(), LINUX_6), Credentials(1, 0, 0)
    device: AnyDevice = table.init(uid=0, who=root)
    if what == DETAILED:
        device = table.init_detailed(uid=0, who=root)
    inode = top = Inode(is_dir=True)
    for depth in range(5):
        above, inode = inode, Inode(is_dir=True)
        core.instantiate(above, b"directory-%d" % depth, inode)
    watched = what in (ONE, DETAILED, BELOW)
    if what in (ONE, DETAILED):
        device.add_watch(inode, IN_ALL_EVENTS)
    elif what == BELOW:
        device.add_watch(top, IN_ALL_EVENTS, tree=True)
    elif what == BESIDE:
        device.add_watch(Inode(is_dir=True), IN_ALL_EVENTS, tree=True)
    queue_event = core.queue_event
    seconds = 0.0
    for _ in range(BATCHES):
        start = perf_counter()
        for _ in repeat(None, EVENTS):
            queue_event(inode, IN_CREATE, 0, b"name")
            queue_event(inode, IN_DELETE, 0, b"name")
        seconds += perf_counter() - start
        assert device.queued() == 2 * EVENTS * watched
        if isinstance(device, DetailedDevice):
            device.read_events(1 << 30)
        elif watched:
            device.read(1 << 30)
    return seconds / (2 * EVENTS * BATCHES)


def seconds_per_entry() -> float:
    """Return what an event takes that a journal keeps; a second thread writes meanwhile.

    A batch is written before the next one begins: no filesystem makes events as fast as this
    loop, which would fill the journal's room (history.journal.MOST_WAITING).
    """
    core = Core()
    root = Inode(is_dir=True)
    names = [b"file-%d" % number for number in range(EVENTS)]
    with tempfile.TemporaryDirectory() as directory:
        store = Store(f"{directory}/journal".encode(), b"/source", Bounds())
        tried = Event()
        journal = Journal(core, store, on_tried=tried.set)
        journal.watch(root)
        core.actor = Process(1, 0, 0, b"program")
        start = perf_counter()
        for _ in repeat(None, BATCHES):
            for name in names:
                core.queue_event(root, IN_CREATE, 0, name)
                core.queue_event(root, IN_DELETE, 0, name)
            while store.last < journal.now().sequence:
                journal.hurry()
                tried.wait()
                tried.clear()
        journal.close()
        seconds = perf_counter() - start
        assert store.last == 2 * EVENTS * BATCHES, "some were lost"
    return seconds / (2 * EVENTS * BATCHES)


def measure(settings: Settings, console: Console) -> list[Target]:
    """Return the targets, medians over the rounds."""
    results = Results(tuple(BOUNDS))
    with console.status("engine"):
        for _ in range(settings.rounds):
            output = subprocess.run(
                [sys.executable, "-m", __name__], cwd=PROJECT, stdout=subprocess.PIPE, check=True
            ).stdout
            results.add_round({ENGINE: json.loads(output)})
    return [
        Target(f"engine: {what}", "its time", bound, results.median(ENGINE, what) * 1e6, "µs")
        for what, bound in BOUNDS.items()
    ]


def main() -> None:
    gc.disable()
    seconds = {what: seconds_per_event(what) for what in BOUNDS if what != KEPT}
    json.dump({**seconds, KEPT: seconds_per_entry()}, sys.stdout)


if __name__ == "__main__":
    main()
