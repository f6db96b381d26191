# SPDX-License-Identifier: GPL-2.0-or-later
"""One sample of real programs: time each in a directory, in a process of its own.

tests.bench.compared runs this module as a program, once per filesystem and
round; it prints a JSON object of seconds per program.  What the programs work
on is made by tests.bench.material, outside the filesystems.

Invariants
    Every program does the same on every filesystem, with temporary files in it.
    What a program needs is prepared, and what the one before left to be done is
    waited for by a fence, before its clock starts.
    A program that fails has no time; its last words go to standard error.
    The directory is empty again at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

INSERTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inserts.py")
PATIENCE = 120.0  # seconds for one program


class Programs:
    """A fresh directory below one of a filesystem, and what is done there."""

    def __init__(self, directory: str, material: str) -> None:
        self.material = material
        self.top = os.path.join(directory, f"work-{os.getpid()}")
        self.fences = 0
        self.output = b""  # of the last program
        self.environment = os.environ | {
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": self.top,
            "LC_ALL": "C",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
            "TMPDIR": self.path("tmp"),
        }
        os.makedirs(self.path("tmp"))

    def path(self, name: str) -> str:
        return os.path.join(self.top, name)

    def fence(self) -> None:
        """Return when what was asked of the filesystem before is done; see tests.bench.sample."""
        self.fences += 1
        if os.path.exists(self.path(f"fence-{self.fences}")):
            raise RuntimeError("a name that nobody made exists")

    def run(self, *command: str, at: str = "") -> float:
        """Return the seconds that a program takes.  Raises CalledProcessError, TimeoutExpired."""
        self.fence()
        start = perf_counter()
        result = subprocess.run(
            command,
            cwd=self.path(at),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        seconds = perf_counter() - start
        self.output = result.stdout
        return seconds

    def git_clone(self) -> float:
        """Clone 1,000 files, the objects copied."""
        origin = os.path.join(self.material, "repository.git")
        return self.run("git", "clone", "--quiet", "--no-hardlinks", origin, "clone")

    def git_status(self) -> float:
        """The first one after the clone."""
        return self.run("git", "status", "--short", at="clone")

    def tar(self) -> float:
        os.mkdir(self.path("tar"))
        return self.run("tar", "-xf", os.path.join(self.material, "tree.tar"), at="tar")

    def diff(self) -> float:
        """Compare the two trees of 1,000 equal files."""
        return self.run("diff", "-r", "--exclude=.git", "clone", "tar")

    def make(self) -> float:
        """Compile and link 20 C files."""
        shutil.copytree(os.path.join(self.material, "c"), self.path("c"))
        return self.run("make", "--silent", at="c")

    def pip_install(self) -> float:
        """Install wheels of 300 modules into a directory."""
        pip = (sys.executable, "-m", "pip", "--quiet", "install", "--no-index", "--no-deps")
        wheels = os.path.join(self.material, "wheels")
        names = sorted(os.path.join(wheels, name) for name in os.listdir(wheels))
        return self.run(*pip, "--root-user-action=ignore", "--target", "site", *names)

    def sqlite(self) -> float:
        """Insert rows with a write-ahead log and synchronous=FULL; see tests.bench.inserts."""
        self.run(sys.executable, INSERTS, self.path("database"))
        return float(self.output)

    def rm(self) -> float:
        """Remove the clone and what was unpacked and installed."""
        return self.run("rm", "-rf", "clone", "tar", "site")


# In this order: some use what the one before them made.
PROGRAMS: dict[str, Callable[[Programs], float]] = {
    "git clone": Programs.git_clone,
    "git status": Programs.git_status,
    "tar x": Programs.tar,
    "diff -r": Programs.diff,
    "make": Programs.make,
    "pip install": Programs.pip_install,
    "sqlite WAL": Programs.sqlite,
    "rm -rf": Programs.rm,
}


def main() -> None:
    directory, material = sys.argv[1:]
    programs = Programs(directory, material)
    seconds = {}
    try:
        for name, program in PROGRAMS.items():
            try:
                seconds[name] = program(programs)
            except subprocess.CalledProcessError as error:
                words = error.stderr.decode(errors="replace").strip().splitlines()
                said = words[-1] if words else f"exit status {error.returncode}"
                print(f"{name}: {said}", file=sys.stderr)
            except (OSError, shutil.Error, subprocess.TimeoutExpired) as error:
                print(f"{name}: {error}", file=sys.stderr)
    finally:
        shutil.rmtree(programs.top, ignore_errors=True)
    json.dump(seconds, sys.stdout)


if __name__ == "__main__":
    main()
