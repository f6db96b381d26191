# SPDX-License-Identifier: GPL-2.0-or-later
"""What recursive watchers miss: files that were made and never named.

    python -m tests.trees.missed --rounds 3 --directories 100000

inotifywait -r, watchdog, watchfiles and chokidar watch a native directory, a tree watch
watches a mount, and each prints the names that it hears of.  Then programs make files in
directories that they make, and what was made is compared with what was named.  What
is not installed is left out, and said to be; node finds chokidar by NODE_PATH.  At last each
is set up on so many directories.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

import fusenotify
from fusenotify.mounting.mounted import Mounted

OURS = "a tree watch"
OTHERS = ("inotifywait -r", "watchdog", "watchfiles", "chokidar")
FILES, DIRECTORIES = 5000, 500
READY = "ready"

# Each prints READY, then a path a line.
_WATCHDOG = """
import sys
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer
class Handler(FileSystemEventHandler):
    def on_created(self, event): print(event.src_path, flush=True)
    def on_moved(self, event): print(event.dest_path, flush=True)
observer = Observer()
observer.schedule(Handler(), sys.argv[1], recursive=True)
observer.start()
print("ready", flush=True)
observer.join()
"""
_WATCHFILES = """
import sys
from watchfiles import Change, watch
ready = False
for changes in watch(sys.argv[1], debounce=50, rust_timeout=100, yield_on_timeout=True):
    if not ready:
        print("ready", flush=True)
    ready = True
    for change, path in changes:
        if change is Change.added:
            print(path, flush=True)
"""
_CHOKIDAR = """
require("chokidar").watch(process.argv[1], {ignoreInitial: true})
    .on("add", path => console.log(path))
    .on("ready", () => console.log("ready"));
"""
_OURS = """
import os, sys
from fusenotify.client import Inotify
from fusenotify.bits import IN_CREATE, IN_MOVED_TO
inotify = Inotify()
inotify.add_watch(sys.argv[1], IN_CREATE | IN_MOVED_TO, tree=True)
print("ready", flush=True)
while True:
    for event in inotify.read():
        print(os.fsdecode(event.path) or "overflow", flush=True)
"""


def watchers() -> dict[str, list[str]]:
    """Return the commands of those that there are; the directory is to follow."""
    found: dict[str, list[str]] = {}
    if shutil.which("inotifywait"):
        events = ["-e", "create", "-e", "moved_to", "--format", "%w%f"]
        found["inotifywait -r"] = ["inotifywait", "-m", "-r", *events]
    for name, code in (("watchdog", _WATCHDOG), ("watchfiles", _WATCHFILES)):
        if importlib.util.find_spec(name):
            found[name] = [sys.executable, "-c", code]
    if shutil.which("node"):
        asked = ["node", "-e", "require('chokidar')"]
        if not subprocess.run(asked, capture_output=True, check=False).returncode:
            found["chokidar"] = ["node", "-e", _CHOKIDAR]
    found[OURS] = [sys.executable, "-c", _OURS]
    return found


class Watching:
    """A watcher that runs; named are the paths it printed."""

    def __init__(self, command: list[str], top: Path) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [*command, str(top)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        ready = self._process.stderr if command[0] == "inotifywait" else self._process.stdout
        assert ready is not None
        self.seconds = math.inf  # it failed
        for line in ready:
            if line.strip() == READY or "established" in line:
                self.seconds = time.perf_counter() - start
                break
        self.named: set[str] = set()
        self._last = time.monotonic()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.named.add(line.rstrip("\n"))
            self._last = time.monotonic()

    def resident(self) -> int:
        """Return the watcher's resident memory in KiB."""
        return resident(self._process.pid)

    def settle(self, seconds: float) -> None:
        """Return when nothing was said for so long."""
        self._last = time.monotonic()
        while (quiet := time.monotonic() - self._last) < seconds:
            time.sleep(seconds - quiet)

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


# What programs do in an empty directory.  Each returns the files that it made, each as the names
# that it had, any of which will do.
Made = set[tuple[str, ...]]


def copy(top: Path, material: Path) -> Made:
    subprocess.run(["cp", "-r", material / "tree", top / "copy"], check=True)
    return files(top)


def unpack(top: Path, material: Path) -> Made:
    subprocess.run(["tar", "xf", material / "tree.tar", "-C", top], check=True)
    return files(top)


def clone(top: Path, material: Path) -> Made:
    subprocess.run(["git", "clone", "-q", material / "repository", top / "clone"], check=True)
    return {(path,) for (path,) in files(top) if "/.git/" not in path}


def move(top: Path, material: Path) -> Made:
    made: Made = set()
    for number in range(300):
        before, after = top / f"new-{number}", top / f"moved-{number}"
        (before / "a" / "b").mkdir(parents=True)
        (before / "a" / "b" / "f").touch()
        before.rename(after)
        made.add((f"{before}/a/b/f", f"{after}/a/b/f"))
    return made


def install(top: Path, material: Path) -> Made:
    code = """
import os, sys
top, writer = sys.argv[1:]
for number in range(150):
    package = f"{top}/{writer}-{number}"
    for path in ("lib", "lib/deep", "dist"):
        os.makedirs(f"{package}.tmp/{path}", exist_ok=True)
        for name in range(5):
            open(f"{package}.tmp/{path}/{name}.js", "x").close()
            print(f"{package}.tmp/{path}/{name}.js")
    os.rename(f"{package}.tmp", package)
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, top, str(writer)], stdout=subprocess.PIPE, text=True
        )
        for writer in range(4)
    ]
    return {
        (line, line.replace(".tmp/", "/"))
        for each in running
        for line in each.communicate()[0].splitlines()
    }


ACTIONS: dict[str, Callable[[Path, Path], Made]] = {
    f"cp -r of {FILES:,} files": copy,
    "tar x of them": unpack,
    "git clone of them": clone,
    "mkdir -p, a file, mv, 300 times": move,
    "four writers, 600 packages": install,
}


def files(top: Path) -> Made:
    return {(os.path.join(path, name),) for path, _, names in os.walk(top) for name in names}


def make_material(place: Path) -> None:
    """Make a tree, an archive and a repository of it."""
    tree = place / "tree"
    for number in range(DIRECTORIES):
        directory = tree / str(number % 10) / str(number % 50) / str(number)
        directory.mkdir(parents=True)
        for name in range(FILES // DIRECTORIES):
            (directory / f"{name}.txt").write_text(f"{number} {name}\n")
    subprocess.run(["tar", "cf", place / "tree.tar", "-C", place, "tree"], check=True)
    shutil.copytree(tree, place / "repository")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=place / "repository", check=True)


@contextlib.contextmanager
def directory_for(name: str, place: Path) -> Iterator[tuple[Path, Mounted | None]]:
    """Yield an empty directory: native, or in a mount."""
    with tempfile.TemporaryDirectory(dir=place) as made:
        if name != OURS:
            yield Path(made), None
            return
        for part in ("source", "mnt"):
            (Path(made) / part).mkdir()
        with fusenotify.mounted(Path(made) / "source", Path(made) / "mnt") as mount:
            yield Path(mount.mountpoint), mount


def missed(
    name: str, command: list[str], what: str, place: Path, silence: float
) -> tuple[int, int]:
    """Return how many files a watcher did not name, and how many were made.

    It is done with when it was silent for so many seconds.
    """
    with directory_for(name, place) as (top, _):
        watching = Watching(command, top)
        try:
            made = ACTIONS[what](top, place / "material")
            watching.settle(silence)
        finally:
            watching.end()
        assert made
        return sum(watching.named.isdisjoint(names) for names in made), len(made)


def set_up(name: str, command: list[str], directories: int, place: Path) -> tuple[float, int, int]:
    """Return the seconds until a watcher is ready, its KiB, and by how many KiB our daemon grew."""
    with directory_for(name, place) as (top, mount):
        below = top if mount is None else Path(mount.source)
        for number in range(directories):
            (below / str(number // 1000) / str(number)).mkdir(parents=True)
        before = 0 if mount is None else resident(mount.pid)
        watching = Watching(command, top)
        taken = 0 if watching.seconds == math.inf else watching.resident()
        after = 0 if mount is None else resident(mount.pid)
        watching.end()
        return watching.seconds, taken, after - before


def resident(pid: int) -> int:
    """Return a process's resident memory in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("a process has a size")


def main() -> None:
    parser = argparse.ArgumentParser(description="count the files that watchers never name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directories", type=int, default=100_000)
    parser.add_argument(
        "--silence", type=float, default=8.0, help="seconds after which a watcher is done (8)"
    )
    arguments = parser.parse_args()
    console = Console(highlight=False, width=120)
    there = watchers()
    table = Table("files never named", *there)
    with tempfile.TemporaryDirectory(prefix="missed-") as made:
        place = Path(made)
        make_material(place / "material")
        for what in track(ACTIONS, console=Console(stderr=True), transient=True):
            cells = []
            for name, command in there.items():
                counts = [
                    missed(name, command, what, place, arguments.silence)
                    for _ in range(arguments.rounds)
                ]
                fewest, most = min(counts)[0], max(counts)[0]
                span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
                cells.append(f"{span} of {counts[0][1]}")
            table.add_row(what, *cells)
        if arguments.directories:
            times = {
                name: set_up(name, command, arguments.directories, place)
                for name, command in there.items()
            }
            table.add_row(
                f"seconds to set up on {arguments.directories:,} directories",
                *("fails" if s == math.inf else f"{s:.2f}" for s, _, _ in times.values()),
            )
            table.add_row(
                "MiB that the watcher takes then",
                *("" if s == math.inf else f"{taken / 1024:.0f}" for s, taken, _ in times.values()),
            )
            table.caption = f"{OURS}: the daemon grew by {times[OURS][2]} KiB"
    console.print(table)
    if missing := [name for name in OTHERS if name not in there]:
        console.print(f"not installed, and left out: {', '.join(missing)}")


if __name__ == "__main__":
    main()
