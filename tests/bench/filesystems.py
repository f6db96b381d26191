# SPDX-License-Identifier: GPL-2.0-or-later
"""The filesystems that are compared, mounted and unmounted.

tests.bench.compared calls in; tests.bench.peers says how the peers are had.

Invariants
    Each filesystem has its own SOURCE, side by side on one disk, so that none
    finds another's work in the kernel's caches.
    Every daemon runs in front, as a child of the benchmark and in a session of
    its own: an interrupt reaches the benchmark first, which unmounts them all.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.levers import LEVERS
from tests.bench.peers import PEERS, Place, Unavailable, before

PATIENCE = 30.0  # seconds for a daemon to mount, and to end after its unmount
PROJECT = Path(__file__).parents[2]


class Filesystem:
    """One filesystem in the run: mounted when made, sampled at directory."""

    def __init__(self, name: str, place: Place, command: list[str]) -> None:
        self.name = name
        self.place = place
        self.below = place.source / "work"
        self.directory = place.mountpoint / "work"
        with place.log.open("wb") as log:
            self.daemon = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                start_new_session=True,
            )
        try:
            self._wait_for_mount()
        except BaseException:
            self.close()
            raise

    def _wait_for_mount(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.place.mountpoint.is_mount():
            if self.daemon.poll() is not None:
                raise Unavailable(f"its daemon ended: {self.last_words()}")
            if time.monotonic() > end:
                raise Unavailable(f"did not mount within {PATIENCE:.0f} s: {self.last_words()}")
            time.sleep(0.01)

    def last_words(self) -> str:
        """Return the last line that the daemon wrote."""
        lines = self.place.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit {self.daemon.poll()}, without a word"

    def close(self) -> None:
        """Unmount, and wait for the daemon; a daemon that does not end is killed."""
        for how in ("-u", "-uz"):
            unmount = ["fusermount3", how, "-q", "--", str(self.place.mountpoint)]
            if subprocess.run(unmount, stdin=subprocess.DEVNULL, check=False).returncode == 0:
                break
        else:
            self.daemon.terminate()
        try:
            self.daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            print(f"{self.name}: the daemon did not end after its unmount; killed", file=sys.stderr)
            self.daemon.kill()
            self.daemon.wait()


class Native(Filesystem):
    """The directory itself: nothing between it and the benchmark."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.below = self.directory = place.source / "work"

    def last_words(self) -> str:
        return ""

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class How:
    """How fusenotify is mounted.

    watched is what a client watches: "" nothing, "work" the sampled directory,
    "tree" all below it, too.  behind is what is heard of SOURCE.  without is one of
    LEVERS.  before says that it is another checkout's, daemon and client.  journal
    says that it keeps one.
    """

    watched: str = ""
    exclusive: bool = False
    journal: bool = False
    behind: str = ""
    without: str = ""
    before: bool = False


class Ours(Filesystem):
    """fusenotify, and where watched, one client that drains a watch.

    received is how many bytes of records the client got, known after close().
    """

    def __init__(self, name: str, place: Place, how: How) -> None:
        self.client: subprocess.Popen[str] | None = None
        self.received: int | None = None
        self._python, self._checkout = sys.executable, PROJECT
        if how.before:
            command = before(place)
            assert place.before is not None
            self._python, self._checkout = str(Path(command[0]).with_name("python")), place.before
        else:
            program = ["tests.bench.levers", how.without] if how.without else ["fusenotify"]
            command = [sys.executable, "-m", *program, "mount", "-f", "-o", "allow_other"]
            command += ["--exclusive"] * how.exclusive
            command += [f"--journal={place.socket}.journal"] * how.journal
            command += ["--behind", how.behind] if how.behind else []
            command += ["--socket", str(place.socket), str(place.source), str(place.mountpoint)]
        super().__init__(name, place, command)
        if how.watched:
            try:
                self._watch(how.watched)
            except BaseException:
                self.close()
                raise

    def _watch(self, what: str) -> None:
        tree = ["--tree"] * (what == "tree")
        where = [str(self.place.socket), "work"]
        self.client = subprocess.Popen(
            [self._python, "-m", "tests.bench.watcher", *tree, *where],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._checkout,
            start_new_session=True,
        )
        assert self.client.stdout is not None
        if self.client.stdout.readline() != "ready\n":
            raise Unavailable("its client could not watch; see above")

    def close(self) -> None:
        """Unmount, which ends the client."""
        super().close()
        if self.client is None:
            return
        try:
            output, _ = self.client.communicate(timeout=PATIENCE)
            self.received = int(output) if self.client.returncode == 0 else None
        except subprocess.TimeoutExpired:
            print(f"{self.name}: the client outlived its mount; killed", file=sys.stderr)
            self.client.kill()
            self.client.communicate()


NATIVE = "native"
OURS = "fusenotify"
OURS_WATCHED = "fusenotify, watched"
OURS_EXCLUSIVE = "fusenotify --exclusive"
OURS_TREE = "fusenotify, tree watched"
OURS_EXCLUSIVE_TREE = "fusenotify --exclusive, tree watched"
OURS_JOURNAL = "fusenotify --journal"
OURS_JOURNAL_TREE = "fusenotify --journal, tree watched"
OURS_BEHIND = "fusenotify --behind all"
OURS_BEHIND_TREE = "fusenotify --behind all, tree watched"
BEFORE = "fusenotify before"
BEFORE_TREE = "fusenotify before, tree watched"
# Ours by name.
SUBJECTS = {
    OURS: How(),
    OURS_WATCHED: How("work"),
    OURS_EXCLUSIVE: How(exclusive=True),
    OURS_TREE: How("tree"),
    OURS_EXCLUSIVE_TREE: How("tree", exclusive=True),
    OURS_JOURNAL: How(journal=True),
    OURS_JOURNAL_TREE: How("tree", journal=True),
    OURS_BEHIND: How(behind="all"),
    OURS_BEHIND_TREE: How("tree", behind="all"),
}


def without(subject: str) -> dict[str, How]:
    """Return one of ours without each lever, by name."""
    return {
        f"{subject}, without {lever}": replace(SUBJECTS[subject], without=lever) for lever in LEVERS
    }


WITHOUT = without(OURS) | without(OURS_TREE)
# Those of the checkout that --before names.
BEFORES = {BEFORE: How(before=True), BEFORE_TREE: How("tree", before=True)}
NAMES = (NATIVE, *PEERS, *BEFORES, *SUBJECTS, *WITHOUT)


def open_filesystem(name: str, place: Place) -> Filesystem:
    """Return the filesystem of this name, mounted.  Raises Unavailable."""
    if name == NATIVE:
        return Native(name, place)
    how = SUBJECTS.get(name) or WITHOUT.get(name) or BEFORES.get(name)
    if how is not None:
        return Ours(name, place, how)
    return Filesystem(name, place, PEERS[name](place))
