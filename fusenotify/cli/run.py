# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify run -- PROGRAM``: run an unmodified program with our inotify.

run.running does the work.  Exit status: the program's; 125 if the program cannot be run in this
way, 126 if it cannot be executed, 127 if it does not exist, as of env(1) and timeout(1).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import IO, NoReturn

from fusenotify.cli.counts import count
from fusenotify.cli.fault import fault_of
from fusenotify.cli.printable import printable
from fusenotify.mounting.failure import Failure, describe
from fusenotify.mounting.mounted import MountFailed, mounted
from fusenotify.mounting.settings import ACCESSES, SEMANTICS, Limits
from fusenotify.run.calls import Settings
from fusenotify.run.child import CANNOT_RUN, NotStarted
from fusenotify.run.front import end_as
from fusenotify.run.recorder import Recorder
from fusenotify.run.running import run_program


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--max-queued-events",
        metavar="N",
        type=count,
        help="events that each inotify descriptor of the program keeps (the mount's limit)",
    )
    parser.add_argument(
        "--max-user-watches",
        metavar="N",
        type=count,
        help="watches that all processes of the run may have together (the mount's limit)",
    )
    parser.add_argument(
        "--max-user-instances",
        metavar="N",
        type=count,
        help="inotify descriptors that a user's processes may have in the run "
        "(fs.inotify.max_user_instances)",
    )
    parser.add_argument(
        "--semantics",
        choices=sorted(SEMANTICS),
        help="the Linux version whose inotify to imitate (the mount's)",
    )
    parser.add_argument(
        "--mount",
        metavar="SOURCE",
        help="mount this directory over itself while the program runs",
    )
    parser.add_argument(
        "--access",
        choices=ACCESSES,
        help="with --mount: how exactly reads are reported (see fusenotify mount)",
    )
    parser.add_argument(
        "--faults",
        metavar="FAULT",
        type=fault_of,
        action="append",
        default=[],
        help="cause this fault on each inotify descriptor of the program, as 'fusenotify fault' "
        "does: --faults='lose 3' --faults='refuse 1 ENOSPC'; the mount must be made with --faults, "
        "as --mount then does",
    )
    parser.add_argument(
        "--record",
        metavar="FILE",
        help="write the program's calls and events to a file, as JSON lines",
    )
    parser.add_argument(
        "--log",
        action="store_true",
        help="print the program's calls and events on stderr, as strace does",
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
    if arguments.access is not None and arguments.mount is None:
        arguments.usage_error("--access goes with --mount")
    if not command:
        arguments.usage_error("which program?  fusenotify run -- PROGRAM")
    _fill_standard_descriptors()
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
        max_user_instances=arguments.max_user_instances,
        semantics=arguments.semantics,
        faults=arguments.faults,
    )
    directory = None
    with contextlib.ExitStack() as stack:
        file: IO[str] | None = None
        if arguments.record is not None:
            file = stack.enter_context(open(arguments.record, "w", encoding="utf-8", buffering=1))
        if arguments.mount is not None:
            here = os.getcwd()
            usual = Limits()
            mount = stack.enter_context(
                mounted(
                    arguments.mount,
                    access=arguments.access,
                    faults=bool(arguments.faults),
                    max_queued_events=_raised(settings.max_queued_events, usual.max_queued_events),
                    max_user_watches=_raised(settings.max_user_watches, usual.max_user_watches),
                    max_user_instances=_raised(
                        settings.max_user_instances, usual.max_user_instances
                    ),
                )
            )
            # A process in a covered directory sees the mount only after it enters it again.
            directory = here if _is_below(here, mount.mountpoint) else None
        recorder = Recorder(file, sys.stderr if arguments.log else None)
        return run_program(command, settings, recorder, directory)


def _raised(wanted: int | None, usual: int) -> int | None:
    """Return the limit that a mount of ours needs so that a run may have a higher one."""
    return wanted if wanted is not None and wanted > usual else None


def _fill_standard_descriptors() -> None:
    """Open what the caller has closed of 0, 1 and 2, so that no pipe of ours is taken for one.

    In the program they are closed again.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - to the end


def _is_below(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory


def _fail(status: int, message: str) -> int:
    print(f"fusenotify run: {printable(message)}", file=sys.stderr)
    return status
