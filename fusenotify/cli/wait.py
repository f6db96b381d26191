# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait``: print events as inotifywait(1) does.

It is a client like any other.  With -r each directory that is named has one
tree watch (docs/trees.md), so nothing below it is missed or listed; cli.lines
forms what is printed.  What makes the output incomplete is said on stderr,
also with -q.

Exit status: 0 an event came that was asked for, or the monitored mount was
unmounted; 1 an error, or what was waited for is gone; 2 nothing came in time,
or wrong usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from fusenotify.cli.lines import DEFAULT_FORMAT, DEFAULT_TIME_FORMAT, LineFormat, json_line
from fusenotify.cli.watching import AnyEvent, Watching, outermost
from fusenotify.client.events import DetailedInotifyEvent
from fusenotify.masks import IN_ALL_EVENTS, IN_Q_OVERFLOW, parse_events
from fusenotify.mounting.failure import Failure, describe
from fusenotify.protocol.errors import ProtocolError

_TIMED_OUT = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files and directories in mounts")
    parser.add_argument(
        "-m", "--monitor", action="store_true", help="go on after the first event, until unmounted"
    )
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="watch all that is or will be below a directory",
    )
    parser.add_argument(
        "-e",
        "--event",
        dest="events",
        metavar="EVENT[,EVENT...]",
        type=_events,
        action="append",
        help="wait for these events only (all)",
    )
    parser.add_argument(
        "-t",
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=0.0,
        help="exit with status 2 when no event came for so long (0: wait for ever)",
    )
    parser.add_argument(
        "--format",
        metavar="FMT",
        default=DEFAULT_FORMAT,
        help="%%w watched path, %%f name in it, %%e events, %%Xe the same with X between, "
        "%%c cookie, %%T time, %%0 NUL, %%n newline, %%%% percent sign; and not in inotifywait: "
        "%%P process, %%U user and %%C command that did it, or -, %%O path before a rename",
    )
    parser.add_argument(
        "--ignore",
        metavar="PATTERN",
        action="append",
        default=[],
        help="of what a line in a directory's .gitignore would name say nothing; more than once, "
        "each is a line",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print all that is known of each event, an object a line; text that is not UTF-8 is "
        "there once more, as it is, with _base64 behind the key",
    )
    parser.add_argument(
        "--timefmt", metavar="FMT", default=DEFAULT_TIME_FORMAT, help="strftime(3) format of %%T"
    )
    parser.add_argument(
        "--no-newline", action="store_true", help="print no newline behind each event"
    )
    parser.add_argument(
        "-q",
        "--quiet",
        action="count",
        default=0,
        help="say nothing about watches being set up; twice: print no events either",
    )


def run(arguments: argparse.Namespace) -> int:
    """Watch, and print what comes."""
    # As inotifywait ends: at once, also where Python would first wait for the next event.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        line_format = LineFormat(arguments.format, arguments.timefmt)
    except ValueError as error:
        arguments.usage_error(f"argument --format: {error}")
    if arguments.json:
        _check_alone(arguments)
    detailed = arguments.json or line_format.is_detailed
    with Watching(detailed=detailed) as watching:
        printer = _Printer(watching, arguments, line_format)
        printer.watch(arguments.paths)
        return printer.wait()


class _Printer:
    """One run of the command."""

    def __init__(
        self, watching: Watching, arguments: argparse.Namespace, line_format: LineFormat
    ) -> None:
        self._watching = watching
        self._format = line_format
        self._json: bool = arguments.json
        self._end_of_line = b"" if arguments.no_newline else b"\n"
        self._quiet: int = arguments.quiet
        self._monitor: bool = arguments.monitor
        self._recursive: bool = arguments.recursive
        self._ignored: list[str] = arguments.ignore
        self._timeout: float | None = arguments.timeout or None
        self._wanted = 0
        for mask in arguments.events or [IN_ALL_EVENTS]:
            self._wanted |= mask

    def watch(self, paths: list[str]) -> None:
        """Watch what the user named.

        Raises Failure where something cannot be watched.
        """
        self._say("Setting up watches.")
        named = [os.fsencode(path) for path in paths]
        for path in outermost(named) if self._recursive else named:
            self._add(path)
        self._say("Watches established.")

    def wait(self) -> int:
        """Print events until the end, and return the exit status.

        Raises Failure where what was waited for can no longer come.
        """
        deadline = self._deadline()
        while self._watching:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            events = self._watching.read(remaining)
            if not events:
                return _TIMED_OUT
            for watched, event in events:
                if event.mask & self._wanted:
                    self._print(watched, event)
                    if not self._monitor:
                        return 0
                    deadline = self._deadline()
                    continue
                if self._json:  # what nobody asks for and a watch says
                    self._print(watched, event)
                if event.mask & IN_Q_OVERFLOW:
                    complain(_lost(event))
            sys.stdout.buffer.flush()
        if not self._monitor:
            raise Failure("what was watched is gone, and no such event came")
        self._say("Nothing is left to watch.")
        return 0

    def _add(self, path: bytes) -> None:
        is_directory = os.path.isdir(path)
        if is_directory:
            path = path.rstrip(b"/") + b"/"
        try:
            tree = self._recursive and is_directory
            self._watching.add(path, self._wanted, tree=tree, exclude=self._ignored)
        except OSError as error:
            raise _cannot_watch(path, error.strerror or describe(error)) from error
        except ProtocolError as refusal:  # as of a daemon of an older release
            raise _cannot_watch(path, str(refusal)) from refusal

    def _deadline(self) -> float | None:
        return time.monotonic() + self._timeout if self._timeout else None

    def _print(self, watched: bytes, event: AnyEvent) -> None:
        if self._quiet >= 2:
            return
        if self._json:
            assert isinstance(event, DetailedInotifyEvent)
            line = json_line(watched, event)
        else:
            line = self._format.line(watched, event)
        sys.stdout.buffer.write(line + self._end_of_line)

    def _say(self, text: str) -> None:
        """Tell the user what goes on."""
        if not self._quiet:
            complain(text)


def _cannot_watch(path: bytes, reason: str) -> Failure:
    return Failure(f"{os.fsdecode(path)}: cannot be watched: {reason}")


def _check_alone(arguments: argparse.Namespace) -> None:
    """Refuse what says how lines are formed beside --json, which says it, too."""
    chosen = {
        "--format": arguments.format != DEFAULT_FORMAT,
        "--timefmt": arguments.timefmt != DEFAULT_TIME_FORMAT,
        "--no-newline": arguments.no_newline,
    }
    for option, is_chosen in chosen.items():
        if is_chosen:
            arguments.usage_error(f"argument {option}: not allowed with argument --json")


def _lost(event: AnyEvent) -> str:
    """Return what to say of an overflow."""
    lost = event.lost if isinstance(event, DetailedInotifyEvent) else None
    what = "Events were" if lost is None else "1 event was" if lost == 1 else f"{lost} events were"
    return f"{what} lost: they came faster than they were read."


def complain(text: str) -> None:
    """Tell the user, however quiet it was to be, what makes the output incomplete."""
    print(text, file=sys.stderr, flush=True)


def _events(text: str) -> int:
    try:
        return parse_events(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds of 0 or more")
    return seconds
