# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenarios with their calls made in SOURCE, behind a mount that hears of it.

    python -m tests.differential.behind [--behind all] [--only WORD]

Each scenario runs natively under the kernel's inotify, then in the source of a mount whose device
watches; what is recorded there is compared.  The daemon is stopped while the scenario makes its
calls, so that the kernel combines all records that it can, and each run gives the same.

Status 0 if the scenarios that differ are those of KNOWN, each in its way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client
from tests.differential import answers, devices, hard_links, operations, side_effects
from tests.differential.conftest import OurDevice, World, both
from tests.differential.scenario import SCENARIOS, AnyDevice

# Importing these registers their scenarios.
__all__ = ["answers", "devices", "hard_links", "operations", "side_effects"]


class Way(StrEnum):
    """How what is heard in SOURCE differs from what inotify tells."""

    SAME = "the same"
    ORDER = "in another order"
    ONCE = "once instead of several times"
    SPLIT = "MODIFY and ATTRIB instead of both in one"
    MORE = "also what follows a removal"
    LESS = "not what is done to a directory that is gone"
    OTHER = "different"


def way(on_linux: list[str], heard: list[str]) -> Way:
    """Return how what was recorded differs."""
    if on_linux == heard:
        return Way.SAME
    if sorted(on_linux) == sorted(heard):
        return Way.ORDER
    if any(line.startswith("returned ") for line in {*on_linux} ^ {*heard}):
        return Way.OTHER
    if {*on_linux} == {*heard}:
        return Way.ONCE
    both_in_one = "MODIFY|ATTRIB"
    parts = {
        line.replace(both_in_one, part) for line in on_linux for part in both_in_one.split("|")
    }
    if parts == {*heard}:
        return Way.SPLIT
    if {*on_linux} < {*heard}:
        return Way.MORE
    return Way.LESS if {*on_linux} > {*heard} else Way.OTHER


# The scenarios that differ, as patterns; docs/reference/behind.md says why.
_KNOWN = {
    Way.ORDER: [
        "another user writes to a set *id file*",
        "bind a socket, *",
        "copy file range, *",
        "flags DONT FOLLOW and MASK ADD",
        "flags MASK ADD",
        "open through proc, directory watched",
        "open through proc, object watched",
        "re adding clears excl unlink",
        "remove director* while a * file is open, both watched",
        "remove director* while a * file is open, object watched",
        "remove directory while open, both watched",
        "remove directory while open, directory watched",
        "rename over an open one, *",
        "sendfile, *",
        "unlink both links the open one last, directory watched",
        "unlink both links the open one last, object watched",
        "unlink both links while one is open, directory watched",
        "unlink while mapped, *",
        "unlink while open twice, directory watched",
        "unlink while open twice, object watched",
    ],
    Way.ONCE: [
        "alternating events do not merge",
        "an owner outside the group gives a set gid file to another, both watched",
        "another user chowns nothing of a set id file, both watched",
        "append, both watched",
        "list a directory, both watched",
        "list an empty directory, both watched",
        "open through proc, both watched",
        "rename a directory, both watched",
        "rename a directory, object watched",
        "rewrite, both watched",
        "root keeps set id bits, *",
        "set and remove an *, both watched",
        "the same happens to watch and directory",
        "twenty different operations, object watched",
        "two descriptions of one file, both watched",
        "unlink both links the open one last, both watched",
        "unlink both links, both watched",
        "unlink while open twice, both watched",
        "unlink while open, *",
        "use a file by both names as soon as it has two, *",
        "write at an offset, both watched",
        "write through * of two links, both watched",
    ],
    Way.SPLIT: [
        "another user truncates a set *id file*",
        "root without cap fsetid loses set id bits, directory watched",
    ],
    Way.MORE: [
        "excl unlink o*",
        "flags EXCL UNLINK and MASK *",
        "unlink both links while one is open, both watched",
        "unlink both links while one is open, object watched",
    ],
    Way.LESS: [
        "close asked for",
        "only ACCESS asked for",
        "only CLOSE NOWRITE asked for",
        "only OPEN asked for",
        "twenty different operations, both watched",
        "twenty different operations, directory watched",
    ],
    Way.OTHER: [
        "two programs use a file each by its own name",  # it returns how many events there were
    ],
}
# With --behind watched, the name that was removed first is not heard.
_SAME_IF_WATCHED = "unlink both links while one is open, object watched"
KNOWN = {
    name: differs
    for differs, patterns in _KNOWN.items()
    for pattern in patterns
    for name in SCENARIOS
    if fnmatchcase(name, pattern)
}


def known(name: str, behind: str) -> Way:
    """Return how a scenario differs, as is known."""
    if behind == "watched" and name == _SAME_IF_WATCHED:
        return Way.SAME
    return KNOWN.get(name, Way.SAME)


class Daemon:
    """A mount's daemon, which is stopped except in blocks."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        os.kill(self._pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGSTOP)
            while not self._is_stopped():
                os.sched_yield()

    def _is_stopped(self) -> bool:
        threads = Path(f"/proc/{self._pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(") ")[2].startswith("T") for stat in threads)


class DeviceBehind(OurDevice):
    """A device of a daemon that runs only while it answers."""

    def __init__(self, daemon: Daemon, client: Client, top: Path, queue: int | None) -> None:
        self._daemon = daemon
        with daemon.running():
            super().__init__(client, top, queue)

    def add_watch(self, path: Path | bytes, mask: int) -> int:
        with self._daemon.running():
            return super().add_watch(path, mask)

    def rm_watch(self, wd: int) -> None:
        with self._daemon.running():
            super().rm_watch(wd)

    def read(self, size: int) -> bytes:
        with self._daemon.running():
            return super().read(size)

    def fionread(self) -> int:
        with self._daemon.running():
            return super().fionread()

    def poll(self) -> bool:
        with self._daemon.running():
            return super().poll()

    def fence(self) -> None:
        with self._daemon.running():
            super().fence()

    def close(self) -> None:
        with self._daemon.running():
            super().close()


class Behind(World):
    """The source of a mount, whose devices are the mount's."""

    def __init__(self, mount: Mounted, client: Client) -> None:
        super().__init__(Path(mount.source), client)
        self._daemon = Daemon(mount.pid)

    def device(self, queue: int | None = None) -> AnyDevice:
        return DeviceBehind(self._daemon, self.connection, self.top, queue)


@contextlib.contextmanager
def native_and_behind(top: Path, behind: str) -> Iterator[tuple[World, World]]:
    """Make a native directory, and the source of a mount that hears of it, in a directory."""
    for name in ("native", "source", "mnt"):
        (top / name).mkdir()
    with (
        fusenotify.mounted(
            top / "source", top / "mnt", behind=behind, options=["allow_other"]
        ) as mount,
        mount.client() as client,
    ):
        try:
            yield World(top / "native", None), Behind(mount, client)
        finally:
            os.kill(mount.pid, signal.SIGCONT)


def main() -> int:
    """Compare, print what is not known, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--behind", default="all", choices=("watched", "all"))
    parser.add_argument(
        "--only", default="", metavar="WORD", help="scenarios with this in the name"
    )
    arguments = parser.parse_args()
    counts: Counter[Way] = Counter()
    unknown = 0
    with tempfile.TemporaryDirectory(prefix="behind-") as directory:
        top = Path(directory)
        top.chmod(0o755)
        with native_and_behind(top, arguments.behind) as worlds:
            for name, run in SCENARIOS.items():
                if arguments.only not in name:
                    continue
                on_linux, heard = both(run, *worlds)
                found, before = way(on_linux, heard), known(name, arguments.behind)
                counts[found] += 1
                if found is not before:
                    unknown += 1
                    print(f"{name}: {found}, not {before}\n  Linux  {on_linux}\n  behind {heard}")
    print(f"{counts.total()} scenarios")
    for found in Way:
        print(f"{counts[found]:4} {found}")
    print(f"{unknown} not as known")
    return int(unknown > 0)


if __name__ == "__main__":
    sys.exit(main())
