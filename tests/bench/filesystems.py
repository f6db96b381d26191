# SPDX-License-Identifier: GPL-2.0-or-later
"""The filesystems that are compared: how each is had, mounted and unmounted.

tests.bench.__main__ calls in.  A peer is compiled or downloaded into the run's
own directory, never into the project.

Invariants
    Each filesystem has its own SOURCE, side by side on one disk, so that none
    finds another's work in the kernel's caches.
    Every daemon runs in front, as a child of the benchmark and in a session of
    its own: an interrupt reaches the benchmark first, which unmounts them all.
    A peer that cannot be had raises Unavailable with the reason.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
OPTIONS = "allow_other,default_permissions"
PATIENCE = 30.0  # seconds for a daemon to mount, and to end after its unmount
PROJECT = Path(__file__).parents[2]

# The example takes no mount options; these are added to the ones it asks for.
RUN_PYFUSE3_EXAMPLE = f"""\
import runpy, sys, pyfuse3
pyfuse3.default_options = frozenset(pyfuse3.default_options) | set("{OPTIONS}".split(","))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Unavailable(Exception):
    """A filesystem that cannot take part; the message says why and what to do."""


@dataclass
class Place:
    """Where one filesystem lives: root has source/, mnt/, and the daemon's log.

    tools is shared by all: what was compiled or downloaded for this run.
    """

    root: Path
    tools: Path
    pyfuse3_example: Path | None = None

    def __post_init__(self) -> None:
        (self.source / "work").mkdir(parents=True)
        self.mountpoint.mkdir()

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def mountpoint(self) -> Path:
        return self.root / "mnt"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def socket(self) -> Path:
        return self.root / "socket"


def output_of(*command: str) -> str:
    """Return what a program prints.  Raises Unavailable with its last words."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"there is no {command[0]}")
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if result.returncode:
        words = result.stderr.strip() or result.stdout.strip() or f"exit {result.returncode}"
        raise Unavailable(f"{command[0]}: {words.splitlines()[-1]}")
    return result.stdout.strip()


def passthrough_ll(place: Place) -> list[str]:
    """libfuse's C example, compiled as its head comment says; cache=auto, timeout 1 s."""
    program = place.tools / "passthrough_ll"
    if not program.exists():
        for name in ("passthrough_ll.c", "passthrough_helpers.h"):
            plain, zipped = EXAMPLES / name, EXAMPLES / f"{name}.gz"
            if plain.exists():
                text = plain.read_bytes()
            elif zipped.exists():
                text = gzip.decompress(zipped.read_bytes())
            else:
                raise Unavailable(f"there is no {plain}: apt-get install libfuse3-dev")
            (place.tools / name).write_bytes(text)
        flags = output_of("pkg-config", "--cflags", "--libs", "fuse3").split()
        source = str(place.tools / "passthrough_ll.c")
        output_of("gcc", "-O2", source, *flags, "-o", str(program))
    options = f"source={place.source},{OPTIONS}"
    return [str(program), "-f", "-o", options, str(place.mountpoint)]


def bindfs(place: Place) -> list[str]:
    if shutil.which("bindfs") is None:
        raise Unavailable("there is no bindfs: apt-get install bindfs")
    return ["bindfs", "-f", "-o", OPTIONS, str(place.source), str(place.mountpoint)]


def pyfuse3_example(place: Place) -> list[str]:
    """passthroughfs.py of the sdist of the pyfuse3 that is installed."""
    example = place.pyfuse3_example or place.tools / "passthroughfs.py"
    if not example.exists():
        if place.pyfuse3_example:
            raise Unavailable(f"there is no {example}")
        example.write_bytes(_example_from_sdist(place.tools))
    paths = [str(example), str(place.source), str(place.mountpoint)]
    return [sys.executable, "-c", RUN_PYFUSE3_EXAMPLE, *paths]


def _example_from_sdist(tools: Path) -> bytes:
    try:
        wanted = f"pyfuse3=={importlib.metadata.version('pyfuse3')}"
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable("pyfuse3 is not installed: pip install pyfuse3") from None
    pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--dest", str(tools)]
    output_of(*pip, "--no-binary", "pyfuse3", wanted)
    for sdist in tools.glob("pyfuse3-*.tar.gz"):
        with tarfile.open(sdist) as archive:
            for member in archive:
                if member.name.endswith("/examples/passthroughfs.py"):
                    content = archive.extractfile(member)
                    assert content is not None
                    return content.read()
    raise Unavailable(f"the sdist of {wanted} has no examples/passthroughfs.py")


def fusenotify(place: Place) -> list[str]:
    paths = [str(place.source), str(place.mountpoint)]
    options = ["--socket", str(place.socket), "-o", "allow_other"]
    return [sys.executable, "-m", "fusenotify", "mount", "-f", *options, *paths]


class Filesystem:
    """One filesystem in the run: mounted when made, sampled at directory."""

    def __init__(self, name: str, place: Place, command: Callable[[Place], list[str]]) -> None:
        self.name = name
        self.place = place
        self.below = place.source / "work"
        self.directory = place.mountpoint / "work"
        with place.log.open("wb") as log:
            self.daemon = subprocess.Popen(
                command(place),
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


class Watched(Filesystem):
    """fusenotify while one client drains a watch on the sampled directory."""

    def __init__(self, name: str, place: Place) -> None:
        super().__init__(name, place, fusenotify)
        self.received: int | None = None
        self.client = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.watcher", str(place.socket), "/work"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            start_new_session=True,
        )
        assert self.client.stdout is not None
        if self.client.stdout.readline() != "ready\n":
            self.close()
            raise Unavailable("its client could not watch; see above")

    def close(self) -> None:
        """Unmount, which ends the client; keep how many bytes of records it received."""
        super().close()
        if not hasattr(self, "client"):
            return
        try:
            output, _ = self.client.communicate(timeout=PATIENCE)
            self.received = int(output) if self.client.returncode == 0 else None
        except subprocess.TimeoutExpired:
            print(f"{self.name}: the client outlived its mount; killed", file=sys.stderr)
            self.client.kill()
            self.client.communicate()


NATIVE = "native"
PEERS: dict[str, Callable[[Place], list[str]]] = {
    "passthrough_ll": passthrough_ll,
    "bindfs": bindfs,
    "pyfuse3 example": pyfuse3_example,
}
OURS = "fusenotify"
OURS_WATCHED = "fusenotify, watched"
NAMES = (NATIVE, *PEERS, OURS, OURS_WATCHED)


def open_filesystem(name: str, place: Place) -> Filesystem:
    """Return the filesystem of this name, mounted.  Raises Unavailable."""
    if name == NATIVE:
        return Native(name, place)
    if name == OURS_WATCHED:
        return Watched(name, place)
    return Filesystem(name, place, PEERS.get(name, fusenotify))
