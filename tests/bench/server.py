# SPDX-License-Identifier: GPL-2.0-or-later
"""The part "server": watches that cost nothing, many devices, latency, draining, idleness.

tests.bench.__main__ calls measure().  Each figure has a mount of its own;
what is compared takes turns in one round, as everywhere.  Time of the daemon
is processor time of all its threads, from its clock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from fusenotify import Mounted
from fusenotify.bits import IN_ALL_EVENTS, IN_ATTRIB, IN_DELETE_SELF
from fusenotify.client import Device
from fusenotify.events import HEADER
from tests.bench.compared import Settings
from tests.bench.latency import latency
from tests.bench.memory import make_files, mounted
from tests.bench.results import Results, Seconds, in_turn
from tests.bench.targets import Target

NOBODY, IGNORED, ELSEWHERE = "no watch", "an ignored watch", "1,000 watches elsewhere"
TURNS = 10  # short rounds for one of the others, to tell some percent apart
MANY = 1_000  # devices, and watches elsewhere
CHMODS = 200
CLIENTS = 100
RECORDS, DETAILED = "records", "detailed events"
QUEUE = 120_000  # records


def processor_seconds(pid: int) -> float:
    """Return what a process has used, all threads, in nanosecond steps."""
    return time.clock_gettime(~pid << 3 | 2)  # linux/posix-timers.h: CPUCLOCK_SCHED


def touch(directory: str, count: int) -> float:
    """Change two files in turn, so that no event merges; return the seconds of one chmod()."""
    paths = [os.path.join(directory, name) for name in ("one", "other")]
    for path in paths:
        os.close(os.open(path, os.O_CREAT, 0o600))  # no change of those that are there
    start = perf_counter()
    for number in range(count):
        os.chmod(paths[number % 2], 0o600 | number >> 1 & 1)
    return (perf_counter() - start) / count


def work(directory: str, count: int) -> float:
    """Return the seconds that it takes to open, write and close a file."""
    path = os.path.join(directory, "file")
    start = perf_counter()
    for _ in range(count):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"x" * 100)
        os.close(fd)
    return (perf_counter() - start) / count


@contextlib.contextmanager
def watching(device: Device, paths: list[str], mask: int) -> Iterator[None]:
    """Watch paths while the block runs."""
    wds = [device.add_watch(path, mask) for path in paths]
    try:
        yield
    finally:
        for wd in wds:
            device.rm_watch(wd)
        with contextlib.suppress(BlockingIOError):
            while device.read(1 << 20):
                pass


def unheard(settings: Settings) -> list[Target]:
    """What a program pays where watches are of no concern to what it does."""
    operation = "open, write, close"
    results = Results((operation,))
    with mounted() as mount, mount.client() as client:
        device = client.init(nonblock=True)
        directory = os.path.join(mount.mountpoint, "directory")
        os.mkdir(directory)
        elsewhere = make_files(mount.source, MANY)
        watched = {
            NOBODY: ([], 0),
            IGNORED: (["directory"], IN_DELETE_SELF),
            ELSEWHERE: (elsewhere, IN_ALL_EVENTS),
        }
        work(directory, settings.files)
        for number in range(settings.rounds * TURNS):
            samples = {}
            for name in in_turn(list(watched), number):
                with watching(device, *watched[name]):
                    work(directory, 10)
                    samples[name] = {operation: work(directory, settings.files)}
            results.add_round(samples)
    return [
        Target(
            f"server: {name}",
            f"{operation} / the same with {NOBODY}",
            1.03,
            results.ratio(name, NOBODY, operation),
        )
        for name in (IGNORED, ELSEWHERE)
    ]


def many_devices(settings: Settings) -> list[Target]:
    """What one more device costs the daemon per event."""
    results = Results(("event",))
    with (
        mounted(max_user_instances=MANY, max_queued_events=4 * CHMODS) as mount,
        mount.client() as client,
    ):
        places = {"many": "watched", "none": "unwatched"}
        for name in places.values():
            os.mkdir(os.path.join(mount.mountpoint, name))
            touch(os.path.join(mount.mountpoint, name), 2)
        devices = [client.init(nonblock=True) for _ in range(MANY)]
        for device in devices:
            device.add_watch("watched", IN_ATTRIB)

        def sample(name: str) -> Seconds:
            before = processor_seconds(mount.pid)
            touch(os.path.join(mount.mountpoint, places[name]), CHMODS)
            client.sync()
            return {"event": (processor_seconds(mount.pid) - before) / CHMODS}

        for number in range(settings.rounds):
            results.add_round({name: sample(name) for name in in_turn(list(places), number)})
            for device in devices:
                device.read(1 << 20)
    more = results.median("many", "event") - results.median("none", "event")
    return [
        Target(
            "server: one more device that hears an event",
            f"processor time of the daemon, {MANY:,} devices",
            0.6,
            more / MANY * 1e6,
            "µs",
        )
    ]


def drain(settings: Settings) -> list[Target]:
    """How fast one client takes a long queue in stream mode, of records and of detailed events."""
    results = Results(("wall", "processor"))
    count = QUEUE // 10 if settings.quick else QUEUE
    with mounted(max_queued_events=2 * count) as mount:
        directory = os.path.join(mount.mountpoint, "directory")
        os.mkdir(directory)
        touch(directory, 2)
        for number in range(settings.rounds):
            samples = {}
            for kind in in_turn([RECORDS, DETAILED], number):
                with mount.client() as client:
                    device: Device[Any] = (
                        client.init(detailed=True) if kind == DETAILED else client.init()
                    )
                    for path in ("directory", "directory/one", "directory/other"):
                        device.add_watch(path, IN_ATTRIB)
                    touch(directory, count // 2)  # two events each
                    samples[kind] = _drained(mount, device, count)
            results.add_round(samples)
    return [
        Target(
            "server: records drained by one client, streaming",
            "records in a second",
            500_000,
            1 / results.median(RECORDS, "wall"),
            "/s",
            at_least=True,
        ),
        Target(
            "server: detailed events drained by one client, streaming",
            "events in a second",
            200_000,
            1 / results.median(DETAILED, "wall"),
            "/s",
            at_least=True,
        ),
        Target(
            "server: a record drained",
            "processor time of the daemon",
            0.5,
            results.median(RECORDS, "processor") * 1e6,
            "µs",
        ),
    ]


def _drained(mount: Mounted, device: Device[Any], count: int) -> Seconds:
    """Return the seconds that an event takes, until so many were streamed."""
    before, start = processor_seconds(mount.pid), perf_counter()
    wanted: float = count
    for given in device.stream():
        if isinstance(given, bytes):
            # Half of the records are the directory's and carry a name of one unit.
            wanted -= len(given) * 2 / (3 * HEADER.size)
        else:
            wanted -= len(given)
        if wanted < 1:
            break
    seconds = perf_counter() - start
    return {"wall": seconds / count, "processor": (processor_seconds(mount.pid) - before) / count}


def idle(settings: Settings) -> list[Target]:
    """What a daemon uses that nobody asks anything, with clients that wait."""
    seconds = 2.0 if settings.quick else 10.0
    with mounted() as mount, ExitStack() as stack:
        for number in range(CLIENTS):
            client = stack.enter_context(mount.client())
            if number < CLIENTS // 2:
                client.init().add_watch("/", IN_ALL_EVENTS)
        work(mount.mountpoint, 100)
        time.sleep(0.5)  # what the last requests left to do
        before = _ticks(mount.pid)
        time.sleep(seconds)
        used = _ticks(mount.pid) - before
    return [
        Target(
            f"server: idle, {CLIENTS} clients connected",
            f"clock ticks of the daemon in {seconds:g} s",
            0,
            used,
            "ticks",
        )
    ]


def _ticks(pid: int) -> int:
    """Return utime + stime of a process.  proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def measure(settings: Settings, console: Console) -> list[Target]:
    """Return the targets."""
    targets = []
    for part in (unheard, many_devices, latency, drain, idle):
        with console.status(f"server: {part.__name__}"):
            targets += part(settings)
    return targets
