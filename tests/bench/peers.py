# SPDX-License-Identifier: GPL-2.0-or-later
"""The peers: how each filesystem that is compared is had, and the command that mounts it.

tests.bench.filesystems runs the commands.  A peer is compiled or downloaded
into the run's own directory, never into the project; one that cannot be had
raises Unavailable with the reason.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
OPTIONS = "allow_other,default_permissions"

# The example takes no mount options; these are added to the ones it asks for.
RUN_PYFUSE3_EXAMPLE = f"""\
import runpy, sys, pyfuse3
pyfuse3.default_options = frozenset(pyfuse3.default_options) | set("{OPTIONS}".split(","))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# The example takes none either, and logs every call.
RUN_MFUSEPY_LOOPBACK = """\
import os, runpy, sys, mfusepy
_, example, source, mountpoint = sys.argv
loopback = runpy.run_path(example)["Loopback"]
options = {"allow_other": True, "default_permissions": True}
mfusepy.FUSE(loopback(source), mountpoint, foreground=True, **options)
"""
MFUSEPY = "https://github.com/mxmlnkn/mfusepy"


class Unavailable(Exception):
    """A filesystem that cannot take part; the message says why and what to do."""


@dataclass
class Place:
    """Where one filesystem lives: root has source/, mnt/, and the daemon's log.

    tools is shared by all: what was compiled or downloaded for this run.  before
    is another checkout of fusenotify, which has been set up (tests/run).
    """

    root: Path
    tools: Path
    pyfuse3_example: Path | None = None
    mfusepy_loopback: Path | None = None
    before: Path | None = None

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


def mfusepy_loopback(place: Place) -> list[str]:
    """examples/loopback.py of mfusepy's repository (its sdist has no examples)."""
    example = place.mfusepy_loopback
    if example is None:
        checkout = place.tools / "mfusepy"
        if not checkout.exists():
            output_of("git", "clone", "--quiet", "--depth=1", MFUSEPY, str(checkout))
        example = checkout / "examples" / "loopback.py"
    if not example.exists():
        raise Unavailable(f"there is no {example}")
    library = place.tools / "mfusepy-library"
    if not library.exists():
        pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "mfusepy"]
        output_of(*pip, "--root-user-action=ignore", "--target", str(library))
    paths = [str(example), str(place.source), str(place.mountpoint)]
    program = f"import sys; sys.path.insert(0, {str(library)!r})\n{RUN_MFUSEPY_LOOPBACK}"
    return [sys.executable, "-c", program, *paths]


def before(place: Place) -> list[str]:
    """fusenotify as another checkout has it, say that of an earlier commit."""
    if place.before is None:
        raise Unavailable("it is in the checkout that --before names")
    program = place.before / ".venv" / "bin" / "fusenotify"
    if not program.exists():
        raise Unavailable(f"there is no {program}: run tests/run in that checkout first")
    command = [str(program), "mount", "-f", "-o", "allow_other", "--socket", str(place.socket)]
    return [*command, str(place.source), str(place.mountpoint)]


PEERS: dict[str, Callable[[Place], list[str]]] = {
    "passthrough_ll": passthrough_ll,
    "bindfs": bindfs,
    "pyfuse3 example": pyfuse3_example,
    "mfusepy": mfusepy_loopback,
}
