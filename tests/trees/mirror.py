# SPDX-License-Identifier: GPL-2.0-or-later
"""The mirror: who has the records of a tree watch, and a listing to begin with, knows the tree.

    python -m tests.trees.mirror --rounds 1000 --seed 1
    python -m tests.trees.mirror --rounds 1000 --seed 1 --queue 128
    python -m tests.trees.mirror --behind all --storms both --rounds 1000
    python -m tests.trees.mirror --behind watched --storms both --changes files --nobody

A model of all names, and of which are directories, is kept from the records
alone while four processes change the tree (tests.trees.storm).  In each round they
make some calls; behind a fence the model must be the tree.  With a short queue
IN_Q_OVERFLOW is followed by another listing, as inotify(7) says.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple, Self

import fusenotify
from fusenotify.bits import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MOVE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    names,
)
from fusenotify.client import Client
from fusenotify.events import Event, unpack
from tests.conftest import modules, ordinary_user

PROCESSES = 4
CALLS = 40
STORMS = ("mount", "source", "both")
CHANGES = ("all", "files")
MASK = IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB


class Node:
    """An object: with entries a directory."""

    def __init__(self, is_dir: bool) -> None:
        self.entries: dict[bytes, Node] | None = {} if is_dir else None


class Contradiction(Exception):
    """A record that contradicts the tree of the earlier records."""


class Model:
    """The names in a tree, as records tell them."""

    def __init__(self) -> None:
        self._top = Node(is_dir=True)

    @classmethod
    def listed(cls, top: Path) -> Self:
        """Return the model of what is there."""
        model = cls()
        for path, is_dir in sorted(listing(top).items()):
            directory, name = model._place(path)
            directory[name] = Node(is_dir)
        return model

    def listing(self) -> dict[bytes, bool]:
        """Return the paths there are, and which are directories."""
        found: dict[bytes, bool] = {}
        below: list[tuple[bytes, Node]] = [(b"", self._top)]
        while below:
            path, node = below.pop()
            for name, entry in (node.entries or {}).items():
                found[path + name] = entry.entries is not None
                below.append((path + name + b"/", entry))
        return found

    def follow(self, records: Sequence[Event]) -> None:
        """Do what records tell.

        Raises Contradiction.
        """
        moving: dict[int, Node] = {}
        displaced: dict[bytes, Node] = {}
        for number, record in enumerate(records):
            path, mask = record.name, record.mask
            if path is None or path.endswith(b"/"):
                continue  # what a directory says of itself
            directory, name = self._place(path)
            if mask & IN_CREATE:
                if name in directory:
                    raise Contradiction(f"{record} is there already")
                directory[name] = Node(bool(mask & IN_ISDIR))
            elif mask & IN_DELETE:
                self._take(directory, record)
            elif mask & IN_MOVED_FROM:
                exchanged = displaced.pop(path, None)
                moving[record.cookie] = exchanged or self._take(directory, record)
            elif mask & IN_MOVED_TO:
                if record.cookie not in moving:
                    raise Contradiction(f"{record} was not moved from anywhere")
                moved = moving.pop(record.cookie)
                if name in directory and self._is_exchange(
                    moved, directory[name], path, records[number + 1 :][:1]
                ):
                    displaced[path] = directory[name]
                directory[name] = moved

    def _is_exchange(
        self, moved: Node, there: Node, path: bytes, following: Sequence[Event]
    ) -> bool:
        """Return whether what is at a path will be moved, and is not replaced.

        A directory replaces an empty one only, which says so before anything else is said.
        """
        if moved.entries is None:
            return there.entries is not None
        if there.entries is None:
            return True
        return not any(
            event.mask == IN_ATTRIB | IN_ISDIR and event.name == path + b"/" for event in following
        )

    def _place(self, path: bytes) -> tuple[dict[bytes, Node], bytes]:
        """Return the entries of a path's directory, and its last name."""
        *above, name = path.split(b"/")
        node = self._top
        for each in above:
            if node.entries is None or each not in node.entries:
                raise Contradiction(f"{path!r} leads through what is not there")
            node = node.entries[each]
        if node.entries is None:
            raise Contradiction(f"{path!r} leads through a file")
        return node.entries, name

    def _take(self, directory: dict[bytes, Node], record: Event) -> Node:
        assert record.name is not None
        node = directory.pop(record.name.rpartition(b"/")[2], None)
        if node is None or (node.entries is not None) != bool(record.mask & IN_ISDIR):
            raise Contradiction(f"{record} is not there, or something else")
        if record.mask & IN_DELETE and node.entries:
            raise Contradiction(f"{record} is not empty: {[*node.entries]}")
        return node


def listing(top: Path) -> dict[bytes, bool]:
    """Return the paths below a directory, and which are directories."""
    found: dict[bytes, bool] = {}
    below = [os.fsencode(top)]
    while below:
        directory = below.pop()
        for entry in os.scandir(directory):
            is_dir = entry.is_dir(follow_symlinks=False)
            found[os.path.relpath(entry.path, os.fsencode(top))] = is_dir
            if is_dir:
                below.append(entry.path)
    return found


class Round(NamedTuple):
    """What a round was: how many records, whether some were lost, and how much is there."""

    records: int
    overflowed: bool
    names: int


class Mirror:
    """A model of a mount, and the processes that change it."""

    def __init__(
        self,
        client: Client,
        source: Path,
        mnt: Path,
        queue: int | None,
        storms: str,
        changes: str,
    ) -> None:
        self._client = client
        self._source = source
        self._device = client.init(nonblock=True, max_queued_events=queue)
        self._device.add_watch("/", MASK, tree=True)
        self._model = Model.listed(mnt)  # all directories are known to the mount then
        tops = {"mount": [mnt], "source": [source], "both": [mnt, source]}[storms]
        self._storms = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.trees.storm"),
                    *(str(tops[number % len(tops)]), changes),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            for number in range(PROCESSES)
        ]

    def round(self, seed: int, calls: int = CALLS) -> Round:
        """Have the tree changed, and compare; raise AssertionError where the model differs."""
        for number, storm in enumerate(self._storms):
            assert storm.stdin is not None
            storm.stdin.write(f"{seed * PROCESSES + number} {calls}\n")
        for storm in self._storms:
            assert storm.stdout is not None
            assert storm.stdout.readline() == "done\n"
        self._client.sync()
        records = self._records()
        there = listing(self._source)
        overflowed = any(record.mask & IN_Q_OVERFLOW for record in records)
        if overflowed:
            self._model = Model.listed(self._source)
        else:
            try:
                self._model.follow(records)
            except Contradiction as wrong:
                raise AssertionError(f"{wrong}\n{_told(records)}") from None
        model = self._model.listing()
        if model != there:
            missing = sorted(there.items() - model.items())
            extra = sorted(model.items() - there.items())
            raise AssertionError(
                f"the model misses {missing} and has {extra} too many\n{_told(records)}"
            )
        return Round(len(records), overflowed, len(there))

    def close(self) -> None:
        for storm in self._storms:
            assert storm.stdin is not None
            storm.stdin.close()
            storm.wait()
            assert storm.stdout is not None
            storm.stdout.close()
        self._device.close()

    def _records(self) -> list[Event]:
        found: list[Event] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found += unpack(self._device.read(1 << 20))
        return found


def _told(records: Sequence[Event]) -> str:
    return "\n".join(
        f"{'|'.join(names(record.mask))} {record.name!r} {record.cookie or ''}"
        for record in records[-200:]
    )


@contextlib.contextmanager
def mirrored(
    top: Path,
    queue: int | None = None,
    storms: str = STORMS[0],
    behind: str = "off",
    changes: str = CHANGES[0],
) -> Iterator[Mirror]:
    """Mount a directory of top while the block runs, and mirror it.

    storms is one of STORMS: where the tree is changed, by the mount, in its source, or both.
    behind is what the mount hears of that.  changes is one of CHANGES.
    """
    source, mnt = top / "source", top / "mnt"
    (source / "a" / "b" / "c").mkdir(parents=True)
    (source / "a" / "b" / "e").write_bytes(b"x")
    if changes == "files":
        for one, other in product("abcd", repeat=2):
            (source / one / other).mkdir(parents=True, exist_ok=True)
    mnt.mkdir()
    with fusenotify.mounted(source, mnt, behind=behind) as mount, mount.client() as client:
        mirror = Mirror(client, source, mnt, queue, storms, changes)
        try:
            yield mirror
        finally:
            mirror.close()


def as_nobody(options: Sequence[str]) -> int:
    """Run this program as an ordinary user; return its exit status."""
    user = ordinary_user()
    if user is None:
        sys.exit("an ordinary user has no Python that finds this project's modules")
    with user.with_fuse(user.python, "-m", "tests.trees.mirror", *options) as command:
        return subprocess.run(command, env=modules(), cwd="/", check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description="keep a model of a tree by its records")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--queue", type=int, help="how many events queue (the mount's limit)")
    parser.add_argument("--storms", choices=STORMS, default=STORMS[0], help="change the tree there")
    parser.add_argument("--behind", default="off", help="what the mount hears of its source")
    parser.add_argument(
        "--changes", choices=CHANGES, default=CHANGES[0], help="change all, or no directories"
    )
    parser.add_argument(
        "--nobody", action="store_true", help="run all of it as an ordinary user (needs root)"
    )
    arguments = parser.parse_args()
    if arguments.nobody:
        sys.exit(as_nobody([each for each in sys.argv[1:] if each != "--nobody"]))
    rounds: list[Round] = []
    with (
        tempfile.TemporaryDirectory(prefix="mirror-") as top,
        mirrored(
            Path(top), arguments.queue, arguments.storms, arguments.behind, arguments.changes
        ) as mirror,
    ):
        for number in range(arguments.rounds):
            rounds.append(mirror.round(arguments.seed + number))
    overflows = sum(each.overflowed for each in rounds)
    print(
        f"seed {arguments.seed}: {len(rounds)} rounds, "
        f"{sum(each.records for each in rounds)} records, {overflows} rounds with an overflow, "
        f"up to {max(each.names for each in rounds)} names: the model was the tree each time"
    )


if __name__ == "__main__":
    main()
