# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that watch a directory, as public ones do it: how to start each, and hear from it.

tests.run_under.matrix runs them natively and under ``fusenotify run``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.run_under.programs import compiled

HERE = Path(__file__).parent / "watchers"
# Debian's golang-github-fsnotify-fsnotify-dev.
GOPATH = Path("/usr/share/gocode")
_GO = {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOPATH": str(GOPATH)}


class Missing(Exception):
    """A program is not here; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that prints what happens in a directory.

    command makes its command line of a directory and of one for what it needs, or raises
    Missing.  It is ready when it printed ready, where that says something; overflow is what it
    prints where it hears of one.  tail says that it prints what is written to the file "log".
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    ready: str
    overflow: str = r"OVERFLOW|overflow"
    tail: bool = False


def _tool(name: str, package: str, *arguments: str) -> Callable[[Path, Path], list[str]]:
    def command(directory: Path, _: Path) -> list[str]:
        if shutil.which(name) is None:
            raise Missing(f"apt-get install {package}")
        return [name, *(word.replace("DIR", str(directory)) for word in arguments)]

    return command


def _python(library: str) -> Callable[[Path, Path], list[str]]:
    def command(directory: Path, _: Path) -> list[str]:
        probe = [sys.executable, "-c", f"import {library}"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            raise Missing(f"pip install {library}")
        return [sys.executable, str(HERE / "python_watch.py"), library, str(directory)]

    return command


def _fs_watch(directory: Path, _: Path) -> list[str]:
    if shutil.which("node") is None:
        raise Missing("apt-get install nodejs")
    return ["node", str(HERE / "fs_watch.js"), str(directory)]


def _chokidar(version: int) -> Callable[[Path, Path], list[str]]:
    def command(directory: Path, needs: Path) -> list[str]:
        if shutil.which("npm") is None:
            raise Missing("apt-get install npm")
        modules = needs / f"chokidar{version}"
        if not modules.exists():
            install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(modules)]
            done = subprocess.run(
                [*install, f"chokidar@{version}"], capture_output=True, check=False, timeout=120
            )
            if done.returncode:
                raise Missing("npm finds no chokidar")
        library = modules / "node_modules" / "chokidar"
        return ["node", str(HERE / "chokidar_watch.js"), str(directory), str(library)]

    return command


def _fsnotify(directory: Path, needs: Path) -> list[str]:
    return [str(go_program(needs, "build", HERE / "watch.go")), str(directory)]


def go_program(needs: Path, *arguments: str | Path) -> Path:
    """Compile a static Go program, and return it.

    Raises Missing.
    """
    if shutil.which("go") is None or not (GOPATH / "src/github.com/fsnotify").exists():
        raise Missing("apt-get install golang-go golang-github-fsnotify-fsnotify-dev")
    program = needs / f"go-{arguments[0]}"
    if not program.exists():
        first, *rest = map(str, arguments)
        subprocess.run(
            ["go", first, "-o", str(program), *rest],
            env={**os.environ, **_GO, "GOCACHE": str(needs / "gocache")},
            check=True,
            timeout=300,
        )
    return program


def _c(size: int) -> Callable[[Path, Path], list[str]]:
    def command(directory: Path, needs: Path) -> list[str]:
        program = needs / "scenarios"
        if not program.exists():
            try:
                compiled(needs)
            except (OSError, subprocess.CalledProcessError):
                raise Missing("apt-get install gcc libc6-dev") from None
        return [str(program), str(directory), "watch", str(size)]

    return command


def _entr(directory: Path, _: Path) -> list[str]:
    if shutil.which("entr") is None:
        raise Missing("apt-get install entr")
    # entr ends with the shell.
    script = (
        'trap "kill \\$!; exit" TERM; echo ready; while :; do '
        'ls -d "$1" "$1"/* | entr -n -d -p sh -c "ls $1" & wait $!; done'
    )
    return ["sh", "-c", script, "sh", str(directory)]


PROGRAMS = [
    Program(
        "inotifywait",
        _tool("inotifywait", "inotify-tools", "-m", "-r", "DIR"),
        r"Watches established",
    ),
    Program(
        "tail -F", _tool("tail", "coreutils", "-F", "-n", "100", "DIR/log"), r"first", tail=True
    ),
    Program("node fs.watch", _fs_watch, r"^ready"),
    Program("chokidar 3", _chokidar(3), r"^ready"),
    Program("chokidar 4", _chokidar(4), r"^ready"),
    Program("watchdog", _python("watchdog"), r"^ready"),
    Program("watchfiles", _python("watchfiles"), r"^ready$"),
    Program("inotify_simple", _python("inotify_simple"), r"^ready"),
    Program("asyncinotify", _python("asyncinotify"), r"^ready"),
    Program("Go, fsnotify", _fsnotify, r"^ready"),
    Program("C, 40 bytes", _c(40), r"^watching", r"-1 4000"),
    Program("C, 300 bytes", _c(300), r"^watching", r"-1 4000"),
    Program("C, 4096 bytes", _c(4096), r"^watching", r"-1 4000"),
    Program("gio monitor", _tool("gio", "libglib2.0-bin", "monitor", "DIR"), ""),
    Program("fswatch", _tool("fswatch", "fswatch", "-x", "DIR"), ""),
    Program("entr -d", _entr, r"^ready"),
]
