# SPDX-License-Identifier: GPL-2.0-or-later
"""The mirror from the journal: who keeps a model and a cursor knows the tree, whatever is killed.

    python -m tests.history.mirror --rounds 200 --seed 1
    python -m tests.history.mirror --rounds 200 --seed 1 --kill-daemon

Four processes change the tree (tests.trees.storm).  A consumer that has a model of all names,
and a cursor, reads what happened; it is stopped at random between two events, and its
successor has only both.  Behind each round the model must be the tree.  With --kill-daemon
the daemon is killed in every other round while the tree changes; then the model may differ
only where a gap was told, after which the tree is listed again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import fusenotify
from fusenotify.bits import IN_CREATE, IN_DELETE, IN_ISDIR, IN_MOVED_TO, IN_Q_OVERFLOW, names
from fusenotify.client import PastEvent
from fusenotify.mounting.mounted import Mounted
from tests.trees.mirror import CALLS, PROCESSES, Contradiction, Model, Node, listing


class JournalModel(Model):
    """A model that the journal's events keep: these say what a rename replaced or exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self._exchanged = False

    def follow_event(self, event: PastEvent) -> None:
        """Do what an event tells.

        Raises Contradiction.
        """
        if not event.mask & (IN_CREATE | IN_DELETE | IN_MOVED_TO):
            return
        entries, name = self._place(event.path)
        if event.mask & IN_CREATE:
            if name in entries:
                raise Contradiction(f"{event} is there already")
            entries[name] = Node(bool(event.mask & IN_ISDIR))
        elif event.mask & IN_DELETE:
            if (node := entries.pop(name, None)) is None or node.entries:
                raise Contradiction(f"{event} is not there, or not empty")
        else:
            self._rename(event, entries, name)

    def _rename(self, event: PastEvent, entries: dict[bytes, Node], name: bytes) -> None:
        assert event.old_path is not None
        old_entries, old_name = self._place(event.old_path)
        if event.exchanged:
            self._exchanged = not self._exchanged
            if self._exchanged:  # the second event of the two says the same
                entries[name], old_entries[old_name] = old_entries[old_name], entries[name]
            return
        if old_name not in old_entries or (name in entries) != event.replaced:
            raise Contradiction(f"{event} is not so")
        entries[name] = old_entries.pop(old_name)


class Round(NamedTuple):
    """The results of a round: events, killed consumers, and whether there was a gap."""

    events: int
    stopped: int
    gap: bool


class Mirror:
    """A model of a mount, and the processes that change it."""

    def __init__(self, top: Path, chosen: random.Random) -> None:
        self._source, self._mnt, self._journal = top / "source", top / "mnt", top / "journal"
        self._chosen = chosen
        self._last: list[str] = []
        self._stack = contextlib.ExitStack()
        self._cursor = ""
        (self._source / "a" / "b" / "c").mkdir(parents=True)
        self._mnt.mkdir()
        self._mount = self._mounted()
        with self._mount.client() as client:
            self._cursor = client.cursor()
        self._model = JournalModel.listed(self._source)

    def _mounted(self) -> Mounted:
        return self._stack.enter_context(
            fusenotify.mounted(self._source, self._mnt, journal=self._journal)
        )

    def round(self, seed: int, *, kill_daemon: bool = False) -> Round:
        """Have the tree changed, read of it, and compare; raise AssertionError where it differs."""
        storms = [self._storm(seed * PROCESSES + number) for number in range(PROCESSES)]
        if kill_daemon:
            for storm in storms:
                assert storm.stdout is not None
                storm.stdout.read(1)  # it is in the midst of its calls
            os.kill(self._mount.pid, signal.SIGKILL)
        for storm in storms:
            storm.communicate()
        if kill_daemon:
            self._stack.close()
            self._mount = self._mounted()
        events = stopped = 0
        gap = False
        done = False
        while not done:
            count, told, done = self._consume(self._chosen.randrange(1, 200))
            events, stopped, gap = events + count, stopped + (not done), gap or told
        there = listing(self._source)
        model = self._model.listing()
        if model != there:
            missing, extra = (
                sorted(there.items() - model.items()),
                sorted(model.items() - there.items()),
            )
            told_last = "\n".join(self._last[-100:])
            raise AssertionError(f"missing {missing}, {extra} too many\n{told_last}")
        return Round(events, stopped, gap)

    def _storm(self, seed: int) -> subprocess.Popen[str]:
        storm = subprocess.Popen(
            [sys.executable, "-m", "tests.trees.storm", str(self._mnt)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert storm.stdin is not None
        # Two halves: at the end of the first one it says so.
        storm.stdin.write(f"{seed} {CALLS // 2}\n{seed + 1_000_000} {CALLS // 2}\n")
        storm.stdin.close()
        storm.stdin = None
        return storm

    def _consume(self, most: int) -> tuple[int, bool, bool]:
        """Be a consumer that is stopped after so many events: how many, a gap, is it all."""
        count, gap = 0, False
        with self._mount.client() as client, contextlib.closing(client.since(self._cursor)) as past:
            for event in past:
                self._last.append(f"{'|'.join(names(event.mask))} {event}")
                if event.mask & IN_Q_OVERFLOW:
                    # What happened before now is in the listing, and what follows it is read.
                    self._cursor = client.cursor()
                    self._model = JournalModel.listed(self._source)
                    return count, True, False
                self._model.follow_event(event)
                self._cursor = event.cursor
                count += 1
                if count == most:
                    return count, gap, False
        return count, gap, True

    def close(self) -> None:
        self._stack.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="keep a model of a tree by its journal")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--kill-daemon", action="store_true", help="in every other round")
    arguments = parser.parse_args()
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="mirror-") as top:
        mirror = Mirror(Path(top), random.Random(arguments.seed))
        with contextlib.closing(mirror):
            for number in range(arguments.rounds):
                kill = arguments.kill_daemon and number % 2 == 1
                rounds.append(mirror.round(arguments.seed + number, kill_daemon=kill))
    print(
        f"seed {arguments.seed}: {len(rounds)} rounds, "
        f"{sum(each.events for each in rounds)} events, "
        f"{sum(each.stopped for each in rounds)} times gone on from a cursor, "
        f"{sum(each.gap for each in rounds)} rounds with a gap: the model was the tree each time"
    )


if __name__ == "__main__":
    main()
