# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the benchmark that compare filesystems: all mounted at once, sampled in turn.

tests.bench.__main__ calls in.  A part says which filesystems take part, which
program takes a sample, and what its goals are; results does the arithmetic.

Invariants
    A sample is a fresh process.
    Who cannot be had, or fails, is left out with the reason, and no part fails for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tests.bench import filesystems, material
from tests.bench.filesystems import (
    BEFORE,
    BEFORE_TREE,
    BEFORES,
    NATIVE,
    OURS,
    OURS_BEHIND,
    OURS_BEHIND_TREE,
    OURS_EXCLUSIVE,
    OURS_EXCLUSIVE_TREE,
    OURS_JOURNAL,
    OURS_JOURNAL_TREE,
    OURS_TREE,
    OURS_WATCHED,
    PROJECT,
    Filesystem,
    without,
)
from tests.bench.peers import PEERS, Place, Unavailable
from tests.bench.programs import PROGRAMS
from tests.bench.results import Results, Seconds, in_turn
from tests.bench.sample import LARGE, OPERATIONS, REPEATED
from tests.bench.targets import Goal, Target

SAMPLE_PATIENCE = 300.0  # seconds
# What creating a name costs on a disk depends on where its directory happens to
# lie and what was deleted there before: more than one filesystem differs from another.
IN_MEMORY = Path("/dev/shm")
C_PEERS = ("passthrough_ll", "bindfs")
PYTHON_PEERS = ("pyfuse3 example", "mfusepy")


@dataclass(frozen=True)
class Settings:
    """How much is measured: samples of each, operations and MiB per sample; and where."""

    quick: bool = False
    rounds: int = 7
    files: int = 300
    blocks: int = 32
    directory: Path | None = None
    pyfuse3_example: Path | None = None
    mfusepy_loopback: Path | None = None
    before: Path | None = None
    only: Sequence[str] = ()

    def takes(self, name: str) -> bool:
        """Return whether a filesystem is to take part."""
        return (not self.only or name in self.only) and (
            name not in BEFORES or self.before is not None
        )

    def working_directory(self) -> Path | None:
        """Return where to work: in memory if nothing was chosen and the blocks fit twice."""
        if self.directory or not os.access(IN_MEMORY, os.W_OK):
            return self.directory
        room = shutil.disk_usage(IN_MEMORY).free
        return IN_MEMORY if room > 2 * self.blocks * LARGE else None


@dataclass(frozen=True)
class Part:
    """One comparison: the participants, what is timed, what was promised.

    table names the operations that a sample makes (see tests.bench.sample);
    "" says that it runs programs.  busy keeps all processors at work meanwhile.
    whole is that of which all others are without something; peer is one of ours that
    is a peer of the others.
    """

    names: Sequence[str]
    operations: Sequence[str]
    goals: Sequence[Goal]
    table: str = ""
    busy: bool = False
    whole: str = ""
    peer: str = ""


HEARD = ("git clone", "tar x", "rm -rf")
UNCACHED = ("missing", "open", "create", "rename", "unlink", "write 4 KiB")
TREES = (OURS_TREE, OURS_EXCLUSIVE_TREE)
PARTS = {
    "requests": Part(
        names=(NATIVE, *PEERS, BEFORE, OURS, OURS_WATCHED),
        operations=tuple(OPERATIONS),
        goals=(
            Goal(UNCACHED, (OURS,), C_PEERS[:1], 1.0),
            Goal(("write 1 MiB", "read 1 MiB"), (OURS,), C_PEERS[:1], 1.2),
        ),
        table="requests",
    ),
    "busy": Part(
        names=(C_PEERS[0], OURS),
        operations=tuple(OPERATIONS),
        goals=(Goal(UNCACHED, (OURS,), C_PEERS[:1], 2.0),),
        table="requests",
        busy=True,
    ),
    "cached": Part(
        names=(NATIVE, OURS_EXCLUSIVE),
        operations=tuple(REPEATED),
        goals=(Goal(tuple(REPEATED), (OURS_EXCLUSIVE,), (NATIVE,), 1.2),),
        table="cached",
    ),
    "work": Part(
        names=(NATIVE, *PEERS, BEFORE, *TREES),
        operations=tuple(PROGRAMS),
        goals=(
            Goal(tuple(PROGRAMS), TREES, C_PEERS, 1.0),
            Goal(tuple(PROGRAMS), TREES, PYTHON_PEERS, 0.5),
        ),
    ),
    "watched": Part(
        names=(BEFORE, OURS, BEFORE_TREE, OURS_TREE),
        operations=tuple(PROGRAMS),
        goals=(Goal(HEARD, (OURS_TREE,), (OURS,), 1.1),),
        peer=OURS,
    ),
    "behind": Part(
        names=(OURS, OURS_EXCLUSIVE, OURS_BEHIND, OURS_EXCLUSIVE_TREE, OURS_BEHIND_TREE),
        operations=tuple(PROGRAMS),
        goals=(
            Goal(HEARD, (OURS_BEHIND,), (OURS_EXCLUSIVE,), 1.05),
            Goal(HEARD, (OURS_BEHIND_TREE,), (OURS_EXCLUSIVE_TREE,), 1.05),
        ),
        peer=OURS,
    ),
    "behind requests": Part(
        names=(OURS, OURS_EXCLUSIVE, OURS_BEHIND),
        operations=tuple(OPERATIONS),
        goals=(Goal(UNCACHED, (OURS_BEHIND,), (OURS_EXCLUSIVE,), 1.05),),
        table="requests",
        peer=OURS,
    ),
    "journal": Part(
        names=(OURS, OURS_JOURNAL, OURS_TREE, OURS_JOURNAL_TREE),
        operations=tuple(PROGRAMS),
        goals=(Goal(tuple(PROGRAMS), (OURS_JOURNAL_TREE,), (OURS_TREE,), 1.03),),
        peer=OURS,
    ),
    "levers": Part(
        names=(OURS, *without(OURS)),
        operations=(*UNCACHED, "open-write-close", "open-read-close", "write 1 MiB"),
        goals=(),
        table="requests",
        whole=OURS,
    ),
    "levers at work": Part(
        names=(OURS_TREE, *without(OURS_TREE)),
        operations=tuple(PROGRAMS),
        goals=(),
        whole=OURS_TREE,
    ),
}
# What keeps one processor at work, as long as the benchmark does not end.
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100000))"


@contextlib.contextmanager
def busy_processors() -> Iterator[None]:
    """Keep every processor at work while the block runs."""
    with contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            spinner = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN]))
            stack.callback(spinner.kill)
        yield


@dataclass
class Outcome:
    """What one part gave: results of all rounds, and why others take no part in them.

    failures are programs that could not do their work somewhere, and what they
    said first.  received is how many bytes of records each draining client
    got, or None where it failed.
    """

    part: Part
    results: Results
    left_out: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    received: dict[str, int | None] = field(default_factory=dict)

    @property
    def ours_failed(self) -> bool:
        """Return whether something of ours could not be measured."""
        missing = any(name.startswith(OURS) for name in self.left_out)
        failed = any(failure.startswith(OURS) for failure in self.failures)
        return missing or failed or None in self.received.values()

    def targets(self, name: str) -> list[Target]:
        return [t for goal in self.part.goals for t in goal.targets(name, self.results)]


class Run:
    """The filesystems of one part."""

    def __init__(self, part: Part, settings: Settings, console: Console) -> None:
        self.part = part
        self.settings = settings
        self.console = console
        self.outcome = Outcome(part, Results(tuple(part.operations)))
        self.taking_part: list[Filesystem] = []
        self.material: Path | None = None

    def leave_out(self, name: str, why: Unavailable) -> None:
        self.outcome.left_out[name] = str(why)
        self.console.print(f"[bold red]left out: {name}[/]: {escape(str(why))}")

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Mount those who can be had, and unmount them at the end."""
        settings = self.settings
        names = [name for name in self.part.names if settings.takes(name)]
        with tempfile.TemporaryDirectory(
            prefix="fusenotify-bench-", dir=settings.working_directory()
        ) as work:
            tools = Path(work, "tools")
            tools.mkdir()
            if not self.part.table:
                self.material = Path(work, "material")
                self.material.mkdir()
                material.make(self.material)
            try:
                for number, name in enumerate(names):
                    root = Path(work, str(number))
                    place = Place(
                        root,
                        tools,
                        settings.pyfuse3_example,
                        settings.mfusepy_loopback,
                        settings.before,
                    )
                    try:
                        self.taking_part.append(filesystems.open_filesystem(name, place))
                    except Unavailable as why:
                        self.leave_out(name, why)
                yield
            finally:
                for filesystem in self.taking_part:
                    filesystem.close()
                    if isinstance(filesystem, filesystems.Ours) and filesystem.client:
                        self.outcome.received[filesystem.name] = filesystem.received

    def sample(self, filesystem: Filesystem, files: int, blocks: int) -> Seconds:
        """Return one sample, taken in a fresh process.  Raises Unavailable."""
        directory = str(filesystem.directory)
        if self.material:
            command = ["tests.bench.programs", directory, str(self.material)]
        else:
            below = str(filesystem.below)
            sizes = [str(files), str(blocks)]
            command = ["tests.bench.sample", self.part.table, directory, below, *sizes]
        try:
            result = subprocess.run(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd=PROJECT,
                check=False,
                timeout=SAMPLE_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"a sample took longer than {SAMPLE_PATIENCE:.0f} s") from None
        words = result.stderr.strip().splitlines()
        if result.returncode:
            log = filesystem.last_words()
            said = words[-1] if words else "no message"
            raise Unavailable(f"a sample failed: {said}" + (f" (daemon: {log})" if log else ""))
        for line in words:
            what, _, why = line.partition(": ")
            self.outcome.failures.setdefault(f"{filesystem.name}: {what}", why)
        seconds: Seconds = json.loads(result.stdout)
        return seconds

    def take_round(self, number: int, files: int, blocks: int) -> dict[str, Seconds]:
        """Sample each once; who fails takes no further part."""
        samples = {}
        for filesystem in in_turn(self.taking_part, number):
            try:
                samples[filesystem.name] = self.sample(filesystem, files, blocks)
            except Unavailable as why:
                self.leave_out(filesystem.name, why)
                self.taking_part.remove(filesystem)
                filesystem.close()
        return samples


def measure(name: str, settings: Settings, console: Console) -> Outcome:
    """Return what all rounds of a part gave, after one that is not counted."""
    run = Run(PARTS[name], settings, console)
    busy = busy_processors() if run.part.busy else contextlib.nullcontext()
    with run.mounted(), busy:
        rounds = settings.rounds
        run.take_round(0, min(settings.files, 50), 1)
        with console.status(name) as status:
            for number in range(rounds):
                status.update(f"{name}: round {number + 1} of {rounds}")
                samples = run.take_round(number, settings.files, settings.blocks)
                run.outcome.results.add_round(samples)
    for left_out in run.outcome.left_out:
        run.outcome.results = run.outcome.results.without(left_out)
    return run.outcome
