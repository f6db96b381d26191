# SPDX-License-Identifier: GPL-2.0-or-later
"""fusenotify without one of the levers that make it fast: what each brings.

As a program, ``python -m tests.bench.levers LEVER mount ...`` is
``fusenotify mount ...`` without that lever.  tests.bench.filesystems mounts
such ones beside the whole, and tests.bench.compared divides their times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Lever:
    """How to do without: options of ``fusenotify mount``, or a change in the daemon."""

    options: tuple[str, ...] = ()
    take_out: Callable[[], None] = lambda: None


# Under a name of its own: ruff takes setattr() with a constant for a mistake, mypy an assignment.
_replace = setattr


def _negotiation() -> None:
    from fusenotify.fs import negotiation

    negotiation.WANTED = 0


def _below(**known: bool) -> None:
    from fusenotify.fs.below import Below

    of = Below.of
    _replace(Below, "of", staticmethod(lambda fd: replace(of(fd), **known)))


def _short_paths() -> None:
    from fusenotify.fs import mount

    _replace(mount, "enter_descriptors", lambda: None)


def _open_tree() -> None:
    from fusenotify.fs import syscalls

    syscalls._open_tree = None


LEVERS = {
    "polling": Lever(options=("--poll", "0")),
    "names and attributes in the kernel": Lever(("--entry-timeout", "0", "--attr-timeout", "0")),
    "no question before each write": Lever(take_out=_negotiation),
    "no flush at close": Lever(take_out=lambda: _below(flushes=True)),
    "fsync in memory without a thread": Lever(take_out=lambda: _below(in_memory=False)),
    "short paths to descriptors": Lever(take_out=_short_paths),
    "open_tree": Lever(take_out=_open_tree),
}


def main() -> int:
    from fusenotify.cli import main as fusenotify

    name, command, *arguments = sys.argv[1:]
    lever = LEVERS[name]
    lever.take_out()
    return fusenotify([command, *lever.options, *arguments])


if __name__ == "__main__":
    sys.exit(main())
