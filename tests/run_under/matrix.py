# SPDX-License-Identifier: GPL-2.0-or-later
"""Public programs natively and under ``fusenotify run``: the same operations, what they print.

    python -m tests.run_under.matrix [PROGRAM ...]

A word names the programs in whose names it is.  First each hears the same operations in a
plain directory and, under run, in a mount; what it prints must be the same.  Then it has a
queue of 4, and 1,000 files are created: does it tell of the overflow, does it find the files
nevertheless, or does it lose them silently?  docs/reference/run.md has the tables.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fusenotify import testing
from fusenotify.testing import temporary_mount
from tests.run_under.programs import run_command
from tests.run_under.watching import PROGRAMS, Missing, Program, go_program

STORM = 1000
# Between two operations: longer than what programs wait to see what belongs together.
PAUSE = 0.4
# How long one that does not say when it is ready has for it.
START_SECONDS = 1.5
_QUIET_SECONDS = 2.5
# tail polls on FUSE, every second: there it has never heard of inotify.
_POLL_SECONDS = 2.5


def main() -> int:
    """Print the two tables; return 1 if a program prints something else under run."""
    parser = argparse.ArgumentParser("python -m tests.run_under.matrix", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("programs", metavar="PROGRAM", nargs="*", help="a word of a name")
    words = parser.parse_args().programs
    chosen = [one for one in PROGRAMS if _is_chosen(one.name, words)]
    differing = 0
    with tempfile.TemporaryDirectory(prefix="fn-matrix-") as needs:
        print("| program | natively and under `run` |\n|---|---|")
        here = []
        for program in chosen:
            try:
                native, ours = _compared(program, Path(needs))
            except Missing as missing:
                print(f"| {program.name} | skipped: {missing} |", flush=True)
                continue
            here.append(program)
            verdict = f"the same {len(native)} lines" if native == ours else "differs"
            print(f"| {program.name} | {verdict} |", flush=True)
            if native != ours:
                differing += 1
                print(*_differences(native, ours), sep="\n", file=sys.stderr)
        for line in (
            _own_tests(Path(needs)) if _is_chosen("Go, fsnotify's own tests", words) else ()
        ):
            print(line, flush=True)
        print("\n| program | told of the overflow | names it printed | |\n|---|---|---|---|")
        for program in here:
            print(_stormed(program, Path(needs)), flush=True)
    return int(differing > 0)


def _own_tests(needs: Path) -> Iterator[str]:
    """Yield the first table's lines for suites that are programs: fsnotify's, and 5,000 files."""
    try:
        suite = go_program(needs, "test", "-c", "github.com/fsnotify/fsnotify")
    except Missing as missing:
        yield f"| Go, fsnotify's own tests | skipped: {missing} |"
    else:
        native, ours = _in_both([str(suite), "-test.v"], needs)
        counts = [
            ", ".join(
                f"{len(set(re.findall(f'^ *--- {word}: (.*) ', said, re.M)))} {what}"
                for word, what in (("PASS", "passed"), ("FAIL", "failed"), ("SKIP", "skipped"))
            )
            for said in (native, ours)
        ]
        yield f"| Go, fsnotify's own tests | natively {counts[0]}; under run {counts[1]} |"
    program = next(one for one in PROGRAMS if one.name == "C, 40 bytes")
    storm = program.command(Path("DIR"), needs)[0]
    native, ours = _in_both([storm, "DIR", "storm_of_5000"], needs)
    yield f"| C, 5,000 files created | natively {native.strip()}; under run {ours.strip()} |"


def _in_both(command: list[str], needs: Path) -> tuple[str, str]:
    """Return what a program prints natively and under run, with TMPDIR, and DIR, a directory."""
    printed = []
    with (
        tempfile.TemporaryDirectory(prefix="fn-native-") as native,
        tempfile.TemporaryDirectory(prefix="fn-mount-") as top,
        temporary_mount(top) as mount,
    ):
        for directory, under in ((native, []), (str(mount.path), run_command("--"))):
            words = [directory if word == "DIR" else word for word in command]
            with testing.Program([*under, *words], env={"TMPDIR": directory}, cwd=needs) as run:
                run.wait(500)
                printed.append("\n".join(run.lines))
    return printed[0], printed[1]


def _is_chosen(name: str, words: list[str]) -> bool:
    return not words or any(word in name for word in words)


def _compared(program: Program, needs: Path) -> tuple[list[str], list[str]]:
    """Return what a program prints natively, and under run."""
    printed = []
    with tempfile.TemporaryDirectory(prefix="fn-native-") as directory:
        printed.append(_heard(program, Path(directory), needs, []))
    with (
        tempfile.TemporaryDirectory(prefix="fn-mount-") as directory,
        temporary_mount(directory) as mount,
    ):
        printed.append(_heard(program, mount.path, needs, run_command("--")))
    return printed[0], printed[1]


def _heard(program: Program, directory: Path, needs: Path, under: list[str]) -> list[str]:
    """Return what a program prints of the operations, with the directory's name left out."""
    watcher = _started(program, directory, needs, under)
    begin = len(watcher.lines)
    for operation in _log_operations(directory) if program.tail else _operations(directory):
        operation()
        time.sleep(PAUSE if not program.tail else _POLL_SECONDS)
    watcher.settle(1.0)
    watcher.end()
    lines = [line.replace(str(directory), "DIR") for line in watcher.lines[begin:]]
    # Of its own doings tail tells otherwise where it polls.
    return [line for line in lines if not (program.tail and line.startswith("tail: "))]


def _started(program: Program, directory: Path, needs: Path, under: list[str]) -> testing.Program:
    (directory / "log").write_text("first\n")
    watcher = testing.Program([*under, *program.command(directory, needs)])
    if program.ready:
        watcher.wait_for(program.ready)
    else:
        time.sleep(START_SECONDS)
    watcher.settle(0.3)
    return watcher


def _operations(top: Path) -> list[Callable[[], object]]:
    return [
        lambda: (top / "a").write_text("x"),
        lambda: _append(top / "a", "x"),
        lambda: (top / "d").mkdir(),
        lambda: (top / "d" / "b").touch(),
        lambda: (top / "a").rename(top / "c"),
        lambda: (top / "c").chmod(0o600),
        lambda: (top / "c").rename(top / "d" / "c"),
        lambda: (top / "d" / "c").unlink(),
        lambda: (top / "d" / "b").unlink(),
        lambda: (top / "d").rmdir(),
        lambda: (top / ("n" * 200)).touch(),
        lambda: (top / ("n" * 200)).unlink(),
    ]


def _log_operations(top: Path) -> list[Callable[[], object]]:
    return [
        lambda: _append(top / "log", "second\n"),
        lambda: (top / "log").rename(top / "log.1"),
        lambda: _append(top / "log", "third\n"),
        lambda: _append(top / "log", "fourth\n"),
        lambda: (top / "log").write_text("5\n"),
        lambda: (top / "log").unlink(),
        lambda: _append(top / "log", "sixth\n"),
    ]


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _stormed(program: Program, needs: Path) -> str:
    """Return a program's line of the second table."""
    with (
        tempfile.TemporaryDirectory(prefix="fn-storm-") as directory,
        temporary_mount(directory) as mount,
    ):
        record = Path(directory) / "record"
        options = ["--max-queued-events=4", f"--record={record}", "--"]
        watcher = _started(program, mount.path, needs, run_command(*options))
        begin = len(watcher.lines)
        for number in range(STORM):
            if program.tail:
                _append(mount.path / "log", f"file-{number:04}\n")
            else:
                (mount.path / f"file-{number:04}").touch()
        watcher.settle(_QUIET_SECONDS)
        watcher.end()
        said = "\n".join(watcher.lines[begin:])
        overflowed = "IN_Q_OVERFLOW" in record.read_text()
    names = len(set(re.findall(r"file-\d{4}", said)))
    told = "yes" if re.search(program.overflow, said) else "no"
    if not overflowed:
        verdict = "its queue did not overflow"
    elif names == STORM:
        verdict = "finds everything"
    else:
        verdict = "tells" if told == "yes" else "**loses files silently**"
    return f"| {program.name} | {told} | {names} of {STORM} | {verdict} |"


def _differences(native: list[str], ours: list[str]) -> list[str]:
    import difflib

    return list(difflib.unified_diff(native, ours, "natively", "under run", lineterm=""))


if __name__ == "__main__":
    sys.exit(main())
