# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify run -- PROGRAM``: an unmodified program whose inotify is ours.

run.running does it.  Exit status: the program's; 125 where it cannot be run so, 126 where it
cannot be executed, 127 where there is none, as of env(1) and timeout(1).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import IO, NoReturn

from fusenotify.cli.counts import count
from fusenotify.mounting.failure import Failure, describe
from fusenotify.mounting.mounted import MountFailed, mounted
from fusenotify.mounting.settings import SEMANTICS
from fusenotify.run.calls import Settings
from fusenotify.run.child import CANNOT_RUN, NotStarted
from fusenotify.run.journal import Journal
from fusenotify.run.running import run_program
from fusenotify.run.signals import end_as


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--max-queued-events",
        metavar="N",
        type=count,
        help="events that each of its inotify descriptors keeps (the mount's limit)",
    )
    parser.add_argument(
        "--max-user-watches",
        metavar="N",
        type=count,
        help="watches that the run may have, all processes together (the mount's limit)",
    )
    parser.add_argument(
        "--semantics", choices=sorted(SEMANTICS), help="whose inotify to be (the mount's)"
    )
    parser.add_argument(
        "--mount",
        metavar="SOURCE",
        help="mount this directory over itself as long as the program runs",
    )
    parser.add_argument(
        "--record",
        metavar="FILE",
        help="write its calls and events to a file, as JSON lines",
    )
    parser.add_argument(
        "--log", action="store_true", help="print its calls and events on stderr, as strace does"
    )
    parser.add_argument(
        "program", metavar="PROGRAM", nargs=argparse.REMAINDER, help="the program and its arguments"
    )
    parser.usage = "%(prog)s [OPTION ...] [--] PROGRAM [ARGUMENT ...]"

    def error(message: str) -> NoReturn:
        parser.print_usage(sys.stderr)
        parser.exit(CANNOT_RUN, f"{parser.prog}: error: {message}\n")

    parser.error = error  # type: ignore[method-assign]


def run(arguments: argparse.Namespace) -> int:
    """Run the program, and end as it does."""
    command = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not command:
        arguments.usage_error("which program?  fusenotify run -- PROGRAM")
    try:
        status = _run(arguments, command)
    except NotStarted as failure:
        return _fail(failure.status, str(failure))
    except (Failure, MountFailed) as failure:
        return _fail(CANNOT_RUN, str(failure))
    except OSError as error:
        return _fail(CANNOT_RUN, describe(error))
    return end_as(status)


def _run(arguments: argparse.Namespace, command: list[str]) -> int:
    settings = Settings(
        max_queued_events=arguments.max_queued_events,
        max_user_watches=arguments.max_user_watches,
        semantics=arguments.semantics,
    )
    directory = None
    with contextlib.ExitStack() as stack:
        file: IO[str] | None = None
        if arguments.record is not None:
            file = stack.enter_context(open(arguments.record, "w", encoding="utf-8", buffering=1))
        if arguments.mount is not None:
            here = os.getcwd()
            mount = stack.enter_context(mounted(arguments.mount))
            # What is mounted over a directory is seen by those who come there anew.
            directory = here if _is_below(here, mount.mountpoint) else None
        journal = Journal(file, sys.stderr if arguments.log else None)
        return run_program(command, settings, journal, directory)


def _is_below(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory


def _fail(status: int, message: str) -> int:
    print(f"fusenotify run: {message}", file=sys.stderr)
    return status
