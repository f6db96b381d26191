# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds: writers on a mount, a kill of its daemon, a recovery, and what SOURCE then has.

python -m tests.fs.crash and tests/fs/test_crash.py run them.  Rounds take turns:
the dead mount is recovered by ``fusenotify mount`` or by ``fusenotify unmount``,
with or without a program that has its working directory and an open file in it.

Invariant
    After each round SOURCE is mounted by a daemon of its own, until close().
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fusenotify import mountinfo
from fusenotify.client import Client, ConnectionLost, Inotify
from fusenotify.masks import IN_ALL_EVENTS
from tests.cli.command import ended, fusenotify
from tests.fs.crash.kinds import KINDS, Verdict
from tests.fs.crash.writer import Writer

# How long what has to end may take before it counts as hung.
END_SECONDS = 20.0
# A kill comes at some moment of this time, counted from when all writers have acknowledged a
# record; in one round of EARLY from their start, so that files are being made.
KILL_WITHIN_SECONDS = 0.6
EARLY = 8


class Round(NamedTuple):
    """What a round has shown.

    acknowledged and found are by kind of writer; ends counts what ended
    writers, and the client; problems are sentences.
    """

    recovery: str
    acknowledged: dict[str, int]
    found: dict[str, Verdict]
    ends: Counter[str]
    problems: list[str]


class Listener:
    """A client that reads what happens to some paths; last are each watch's two last masks."""

    def __init__(self, *paths: Path) -> None:
        self._inotify = Inotify()
        self.last: dict[int, list[int]] = {
            self._inotify.add_watch(path, IN_ALL_EVENTS): [] for path in paths
        }
        self._end = ""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        try:
            while True:
                for event in self._inotify.read():
                    # The queue's overflow is no watch's.
                    masks = self.last.setdefault(event.wd, [])
                    masks[:] = [*masks[-1:], event.mask]
        except ConnectionLost as lost:
            self._end = type(lost).__name__
        except Exception as error:
            self._end = repr(error)

    def end(self, seconds: float) -> str | None:
        """Wait for its end and return what ended it, or None where nothing did."""
        self._reading.join(seconds)
        if self._reading.is_alive():
            return None
        self._inotify.close()
        return self._end


class Rounds:
    """Rounds on SOURCE and MNT below an empty directory of a disk, drawn from a seed."""

    def __init__(self, top: Path, seed: int) -> None:
        self._drawn = random.Random(seed)
        self._number = 0
        self.source, self.mountpoint = top / "source", top / "mnt"
        for place in self.source, self.mountpoint:
            place.mkdir()
        self._fusenotify("mount", self.source, self.mountpoint)

    def run(self) -> Round:
        """Run the next round."""
        by_mount = self._number % 2 == 0
        busy = self._number // 2 % 2 == 1
        name = f"round-{self._number}"
        self._number += 1
        recovery = f"{'mount' if by_mount else 'unmount'}, {'busy' if busy else 'free'}"
        done = Round(recovery, {}, {}, Counter(), [])

        place = self.mountpoint / name
        place.mkdir()
        socket = os.getxattr(self.mountpoint, "user.fusenotify.socket")
        with Client(socket) as client:
            daemon = client.status().pid
        listener = Listener(place)
        with _occupied(place) if busy else contextlib.nullcontext():
            writers = [Writer(kind, place) for kind in KINDS]
            early = self._wait_for_the_moment(writers)
            os.kill(daemon, signal.SIGKILL)
            # In half of the rounds the recovery may meet those who end; not early, where a
            # writer that had not begun would live on, in the new mount.
            if self._drawn.random() < 0.5 or early:
                self._hear_the_ends(writers, listener, done)
            self._recover(by_mount, socket, done)
            if not done.ends:
                self._hear_the_ends(writers, listener, done)
        assert ended(daemon)
        for writer in writers:
            kind, acknowledged = writer.kind, writer.acknowledged
            verdict = KINDS[kind].look(self.source / name, acknowledged)
            done.acknowledged[kind], done.found[kind] = acknowledged, verdict
            if verdict.lost or verdict.torn:
                done.problems.append(f"{kind}: {acknowledged} acknowledged, {verdict}")
        if not done.problems:
            shutil.rmtree(self.source / name)
        return done

    def close(self) -> None:
        """Take the mount away, where one is."""
        if self._mounts():
            self._fusenotify("unmount", self.mountpoint)

    def _wait_for_the_moment(self, writers: list[Writer]) -> bool:
        """Wait until it is time to kill; return whether that may be before all have begun."""
        early = not self._drawn.randrange(EARLY)
        if not early:
            for writer in writers:
                assert writer.begun.wait(END_SECONDS)
        threading.Event().wait(self._drawn.uniform(0, KILL_WITHIN_SECONDS))
        return early

    def _hear_the_ends(self, writers: list[Writer], listener: Listener, done: Round) -> None:
        for writer in writers:
            end = writer.end(END_SECONDS)
            done.ends[f"{writer.kind}: {end}"] += 1
            if end is None or "status" in end:
                done.problems.append(f"{writer.kind} did not end by an error: {end}")
        end = listener.end(END_SECONDS)
        done.ends[f"client: {end}"] += 1
        if end != ConnectionLost.__name__:
            done.problems.append(f"the client heard no end: {end}")

    def _recover(self, by_mount: bool, socket: bytes, done: Round) -> None:
        if not by_mount:
            self._fusenotify("unmount", self.mountpoint)
            if self._mounts() or os.listdir(self.mountpoint):
                done.problems.append("the mount point is not what it was")
            if os.path.exists(socket):
                done.problems.append("a socket stayed behind")
        self._fusenotify("mount", self.source, self.mountpoint)
        if self._mounts() != 1:
            done.problems.append(f"{self._mounts()} mounts on the mount point")
        if os.listdir(self.mountpoint) != os.listdir(self.source):
            done.problems.append("the new mount shows something else than SOURCE")

    def _mounts(self) -> int:
        """Return how many mounts lie on the mount point, dead ones too."""
        mountpoint = os.fsencode(self.mountpoint)
        return sum(mount.mountpoint == mountpoint for mount in mountinfo.mounts())

    def _fusenotify(self, *arguments: str | Path) -> None:
        done = fusenotify(*arguments)
        if done.returncode or done.stderr:
            raise RuntimeError(f"fusenotify {arguments[0]}: {done.returncode}, {done.stderr}")


@contextlib.contextmanager
def _occupied(directory: Path) -> Iterator[None]:
    """Have a program work in a directory, with a file open there, while the block runs."""
    with (
        open(directory / "occupied", "w") as file,
        subprocess.Popen(["cat"], cwd=directory, stdin=subprocess.PIPE, stdout=file) as program,
    ):
        yield
        assert program.poll() is None
