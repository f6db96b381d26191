# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: ``fusenotify COMMAND ...``; cli.commands lists the commands.

Each command is a module of this package with configure(parser) and
run(arguments) -> exit status.  The commands that imitate inotify-tools get their
arguments unparsed, as bytes (argv), and a function that formats their help
(help).  Only the module of the command that is run is imported, so a client's
machine needs neither pyfuse3 nor trio, and a command does not wait for imports
that it does not need.

mount(8) does not know these commands, and calls the program in its own ways: see
cli.mount8.

Exit status: 0 success, 1 failure (with one line on stderr), 2 wrong usage.  wait
and watch have the exit statuses of inotify-tools, and calls by mount(8) those of
mount(8).
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from types import ModuleType

from fusenotify.cli.commands import ALIASES, COMMANDS, EXAMPLES, examples, overview, unknown
from fusenotify.cli.printable import printable
from fusenotify.mounting.failure import Failure, describe
from fusenotify.protocol.errors import ProtocolError

# Commands that imitate inotify-tools, and parse their arguments themselves, with libc.
_LIKE_INOTIFY_TOOLS = {"wait", "watch"}
# The command that /sbin/mount.fusenotify runs.  It is not for people, so it is not in COMMANDS.
_MOUNT_HELPER = "mount.fusenotify"
_INTERRUPTED = 128 + 2  # the status that a shell shows for SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; argv is without the program's name."""
    _have_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [_MOUNT_HELPER] or _is_of_mount_fuse(words):
        from fusenotify.cli import mount8

        return _carried_out(partial(mount8.run, words), failed=mount8.FAILED)
    arguments = _parse(_as_command(words))
    return _carried_out(partial(arguments.run, arguments), failed=1)


def _have_streams() -> None:
    """Drop what is written to a stream that was closed before; print() takes None for stdout."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _carried_out(command: Callable[[], int], *, failed: int) -> int:
    """Run a command and return its exit status; for an error, print it and return failed."""
    try:
        status = command()
        sys.stdout.flush()
    except BrokenPipeError:
        status = 1  # the reader of our output went away, as head does: there is nothing to report
    except Failure as failure:
        status = _fail(str(failure), failed)
    except OSError as error:
        status = _fail(describe(error), failed)
    except ProtocolError as violation:
        status = _fail(str(violation), failed)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    _drop_unwritten()
    return status


def _drop_unwritten() -> None:
    """Drop output that cannot be written; otherwise Python would fail with it at its end, too."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_of_mount_fuse(argv: list[str]) -> bool:
    """Return whether the arguments come from mount.fuse(8), which leaves out the command."""
    return len(argv) == 4 and argv[2] == "-o" and argv[0] not in {*COMMANDS, *ALIASES}


def _as_command(argv: list[str]) -> list[str]:
    """Return the arguments with an alias or ``help`` replaced by the command itself."""
    if argv[:1] == ["help"] and len(argv) <= 2:
        argv = [*argv[1:2], "--help"]
    if argv and argv[0] in ALIASES:
        argv = [ALIASES[argv[0]], *argv[1:]]
    return argv


class _Program(argparse.ArgumentParser):
    """The parser of the whole command line, whose help has the commands in groups."""

    def format_help(self) -> str:
        options = self._get_formatter()
        options.start_section("options")
        options.add_arguments([action for action in self._actions if action.option_strings])
        options.end_section()
        parts = [self.format_usage(), f"{self.description}\n", overview(), options.format_help()]
        hint = "'fusenotify COMMAND --help' describes a command.\n"
        return "\n".join([*parts, examples(EXAMPLES), hint])


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the command line, and one for each command, without arguments yet."""
    program = _Program(prog="fusenotify", description="An inotify of its own for a directory tree.")
    program.add_argument("-V", "--version", action="version", version=f"fusenotify {_version()}")
    commands = program.add_subparsers(
        metavar="COMMAND", required=True, parser_class=argparse.ArgumentParser
    )
    return program, {
        name: commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, command in COMMANDS.items()
    }


def configure(name: str, parser: argparse.ArgumentParser) -> ModuleType:
    """Declare a command's arguments, and return its module."""
    module = importlib.import_module(f"fusenotify.cli.{name}")
    module.configure(parser)
    more = (
        [textwrap.fill(parser.epilog, shutil.get_terminal_size().columns - 2)]
        if parser.epilog
        else []
    )
    parser.epilog = "\n\n".join([*more, examples(COMMANDS[name].examples)])
    return module


def configured_parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the command line, and that of each command, with all arguments."""
    program, commands = parsers()
    for name, command in commands.items():
        configure(name, command)
    return program, commands


def _parse(argv: list[str]) -> argparse.Namespace:
    program, commands = parsers()
    if not argv:
        program.print_help(sys.stderr)
        program.exit(2)
    name = argv[0]
    if name in commands:
        module = configure(name, commands[name])
        if name in _LIKE_INOTIFY_TOOLS:
            words = [os.fsencode(word) for word in argv[1:]]
            return argparse.Namespace(run=module.run, argv=words, help=commands[name].format_help)
        commands[name].set_defaults(run=module.run, argv=argv[1:], usage_error=commands[name].error)
    elif not name.startswith("-"):
        program.error(unknown(name))
    arguments, others = program.parse_known_args(argv)
    if others:
        arguments.usage_error(f"unrecognized arguments: {' '.join(others)}")
    return arguments


def _version() -> str:
    try:
        return metadata.version("fusenotify")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(message: str, status: int) -> int:
    said = f"fusenotify: {printable(message)}"
    if "JOURNAL_STREAM" in os.environ:
        from fusenotify.mounting import journald

        said = journald.for_stderr(journald.ERROR, said)
    print(said, file=sys.stderr)
    return status
