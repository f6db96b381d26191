# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: ``fusenotify mount | unmount | wait | watch | status | limits | fault``.

Each command is a module of this package with configure(parser) and
run(arguments) -> exit status.  Those that are called as inotify-tools are get
their arguments unread, as bytes (argv), and what forms their help (help).  Only
the module of the command that is run is imported, so that a client's machine
needs neither pyfuse3 nor trio, and nothing waits for what it does not use.

mount(8) knows no commands: ``mount -t fuse.fusenotify SOURCE MNT``, or a line
of /etc/fstab, ends in ``fusenotify SOURCE MNT -o OPTIONS``, which is a mount.

Exit status: 0 done, 1 failed (one line on stderr), 2 wrong usage; of wait and
watch that of inotify-tools.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from fusenotify.mounting.failure import Failure, describe
from fusenotify.protocol.errors import ProtocolError

_COMMANDS = {
    "mount": "show a directory through an observable mount",
    "unmount": "take a mount away and wait for its daemon to end",
    "wait": "print the events of files and directories, as inotifywait does",
    "watch": "count the events of files and directories, as inotifywatch does",
    "status": "show mounts, their clients, watches and queues",
    "limits": "show a mount's limits, or set some",
    "fault": "let something go wrong, for a test, on a mount made with --faults",
}
# These are called as inotify-tools are, and read their arguments themselves, as libc does.
_LIKE_INOTIFY_TOOLS = {"wait", "watch"}
_INTERRUPTED = 128 + 2  # what a shell shows for SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; argv is without the program's name."""
    arguments = _parse(_as_command(list(sys.argv[1:] if argv is None else argv)))
    try:
        status: int = arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Who read our output went away, as head does: nothing to tell anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Failure as failure:
        return _fail(str(failure))
    except OSError as error:
        return _fail(describe(error))
    except ProtocolError as violation:
        return _fail(str(violation))
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _as_command(argv: list[str]) -> list[str]:
    """Return the arguments with the command that mount.fuse(8) leaves out."""
    by_mount = len(argv) == 4 and argv[2] == "-o" and argv[0] not in _COMMANDS
    return ["mount", "--by-mount8", *argv] if by_mount else argv


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fusenotify", description="An inotify of its own for a directory tree."
    )
    parser.add_argument("--version", action="version", version=f"fusenotify {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if argv[:1] == [name]:
            module = importlib.import_module(f"fusenotify.cli.{name}")
            module.configure(command)
            if name in _LIKE_INOTIFY_TOOLS:
                words = [os.fsencode(word) for word in argv[1:]]
                return argparse.Namespace(run=module.run, argv=words, help=command.format_help)
            command.set_defaults(run=module.run, argv=argv[1:], usage_error=command.error)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        arguments.usage_error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _version() -> str:
    try:
        return metadata.version("fusenotify")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(message: str) -> int:
    print(f"fusenotify: {message}", file=sys.stderr)
    return 1
