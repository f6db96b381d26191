# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait``: print events as inotifywait(1) does.

It is a client like any other.  With -r each named directory has one tree watch
(docs/reference/trees.md), so nothing below it is missed, and nothing has to be listed.
cli.lines forms the lines, cli.inotify_tools has the parts shared with cli.watch.
docs/reference/wait.md lists the differences from inotifywait.  If the output is
incomplete, that is said on stderr, even with -q.

Exit status: 0 if a requested event came, or nothing is left to monitor; 1 for an
error, or for an event that was not requested, such as the end of a watched object;
2 if nothing came in time.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from collections.abc import Sequence

from fusenotify.bits import IN_ALL_EVENTS, IN_Q_OVERFLOW
from fusenotify.cli.background import Background, Speaker, print_to
from fusenotify.cli.inotify_tools import (
    EVENT,
    FANOTIFY,
    FROMFILE,
    HELP,
    IGNORE,
    NO_DEREFERENCE,
    PATTERNS,
    RECURSIVE,
    Chosen,
    HelpAsked,
    Refused,
    begin,
    complain,
    declare,
    lost,
    put,
)
from fusenotify.cli.libc import Option
from fusenotify.cli.lines import DEFAULT_FORMAT, LineFormat, csv_line, json_line
from fusenotify.cli.watching import Told, Watching
from fusenotify.mounting.failure import Failure, describe
from fusenotify.protocol.errors import ProtocolError

_TIMED_OUT = 2

_OPTIONS = [
    HELP,
    EVENT,
    Option("m", "monitor", "", "go on after the first event, as long as something is watched"),
    Option("q", "quiet", "", "print nothing about the setup of watches; twice: print no events"),
    Option("t", "timeout", "SECONDS", "exit with status 2 if no event came for so long"),
    Option("f", "filename"),
    RECURSIVE,
    *FANOTIFY,
    Option("c", "csv", "", "print comma-separated values"),
    Option("d", "daemon", "", "monitor in the background; needs -o, implies -s"),
    Option("s", "syslog", "", "write messages to syslog(3) instead of stderr"),
    NO_DEREFERENCE,
    Option(
        "",
        "format",
        "FMT",
        "%%w watched path, %%f name in it, %%e events, %%Xe events separated by X, "
        "%%c cookie, %%T time, %%0 NUL, %%n newline, %%%% percent sign; not in inotifywait: "
        "%%P process, %%U user and %%C command that caused it, or -, %%O path before a rename",
    ),
    Option("", "no-newline", "", "print no newline after --format"),
    Option("", "timefmt", "FMT", "strftime(3) format of %%T"),
    FROMFILE,
    Option("o", "outfile", "FILE", "append the output to FILE"),
    *PATTERNS,
    IGNORE,
    Option(
        "",
        "json",
        "",
        "print each event with all details as a JSON object per line; names that are not UTF-8 "
        "are also there in base64, with _base64 appended to the key (not in inotifywait)",
    ),
]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    declare(parser, _OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Watch, and print events."""
    begin()
    # End at once, like inotifywait; Python's handler would wait for the next event.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    chosen = _WaitChosen()
    try:
        words = chosen.read("fusenotify wait", arguments.argv, _OPTIONS)
        printer = _Printer(chosen)
        paths, excluded = chosen.paths(words)
        background = _outputs(chosen)
    except HelpAsked:
        put(1, arguments.help().encode())
        return 0
    except Refused as refused:
        complain(refused.args[0])
        return 1
    return _Run(chosen, printer, background).run(paths, excluded)


class _WaitChosen(Chosen):
    """The values of the options."""

    def __init__(self) -> None:
        super().__init__()
        self.flags: set[str] = set()
        self.quiet = 0
        self.format: bytes | None = None
        self.time_format: bytes | None = None
        self.outfile: bytes | None = None
        self._times: dict[str, int] = {}

    @property
    def monitor(self) -> bool:
        """Whether to go on after the first event."""
        return not self.flags.isdisjoint({"monitor", "daemon"})

    def take(self, name: str, value: bytes) -> None:
        match name:
            case "quiet":
                self.quiet += 1
            case "filename":
                raise Refused(
                    b"The '--filename' option no longer exists.  The option it enabled in earlier\n"
                    b"versions of inotifywait is now turned on by default."
                )
            case "format":
                self.format = value
            case "timefmt":
                self.time_format = value
            case "outfile":
                if self.outfile is not None:
                    raise Refused(b"Multiple --outfile options given.")
                self.outfile = value
            case "monitor" | "csv" | "daemon" | "syslog" | "no-newline" | "json":
                self.flags.add(name)
            case _:
                self._times[name] = self._times.get(name, 0) + 1
                super().take(name, value)

    def check(self) -> None:
        super().check()
        given = self.flags | ({"format"} if self.format is not None else set())
        if self.time_format is not None:
            given.add("timefmt")
        if {"format", "csv"} <= given:
            raise Refused(b"-c and --format cannot both be specified.")
        for other in ("csv", "format", "timefmt", "no-newline"):
            if {"json", other} <= given:
                raise Refused(f"--json and --{other} cannot both be specified.".encode())
        for other in ("no-newline", "timefmt"):
            if other in given and "format" not in given:
                raise Refused(f"--{other} cannot be specified without --format.".encode())
        if b"%T" in (self.format or b"") and self.time_format is None:
            raise Refused(b"%T is in --format string, but --timefmt was not specified.")
        if "daemon" in given and self.outfile is None:
            raise Refused(b"-o must be specified with -d.")
        for name in ("exclude", "excludei"):
            if self._times.get(name, 0) > 1:
                complain(
                    f"--{name}: only the last option will be taken into consideration.".encode()
                )

    def line_format(self) -> LineFormat:
        """Return the format of lines.

        Raises Refused if nothing would be printed for some event.
        """
        if self.format is None:
            return LineFormat(DEFAULT_FORMAT)
        end = b"" if "no-newline" in self.flags else b"\n"
        compiled = LineFormat(self.format + end, self.time_format or b"")
        if compiled.may_be_empty:
            raise Refused(b"Something is wrong with your format string.")
        return compiled


def _outputs(chosen: _WaitChosen) -> Background | None:
    """Open the output file, and go to the background, if that is chosen.

    Raises Refused, OSError.
    """
    if chosen.outfile is None:
        return None
    if "daemon" not in chosen.flags:
        print_to(chosen.outfile)
        return None
    try:
        os.stat(chosen.outfile)  # it must exist, as for inotifywait, which calls realpath(3)
    except OSError as error:
        reason = os.strerror(error.errno or 0).encode()
        raise Refused(reason + b": " + chosen.outfile) from None
    print_to(chosen.outfile)
    return Background()


class _Printer:
    """Forms the text that is printed for events.

    Raises Refused if the patterns or the format are wrong.
    """

    def __init__(self, chosen: _WaitChosen) -> None:
        self._filter = chosen.filter()
        self._format = chosen.line_format()
        self._csv = "csv" in chosen.flags
        self.json = "json" in chosen.flags
        self.is_detailed = self.json or self._format.is_detailed
        self._silent = chosen.quiet >= 2
        self.wanted = chosen.mask or IN_ALL_EVENTS

    def leaves_out(self, told: Told) -> bool:
        """Return whether patterns leave an event out; they never leave out IN_Q_OVERFLOW."""
        if self._filter is None or told.event.mask & IN_Q_OVERFLOW:
            return False
        return self._filter.leaves_out(told.path)

    def printed(self, told: Told) -> bytes:
        """Return the text for an event; with --json, events that were not requested are printed."""
        if self._silent or not (self.json or told.event.mask & self.wanted):
            return b""
        if self.json:
            return json_line(told)
        return csv_line(told) if self._csv else self._format.line(told)


class _Run:
    """One run of the command, which returns its exit status."""

    def __init__(
        self, chosen: _WaitChosen, printer: _Printer, background: Background | None
    ) -> None:
        self._chosen = chosen
        self._printer = printer
        self._background = background
        self._speaker = Speaker(to_log=not chosen.flags.isdisjoint({"syslog", "daemon"}))

    def run(self, paths: Sequence[bytes], excluded: Sequence[bytes]) -> int:
        """Watch paths, print events, and return the exit status."""
        try:
            with Watching(detailed=self._printer.is_detailed) as watching:
                self._watch(watching, paths, excluded)
                if self._background is not None:
                    self._background.ready()
                    self._background = None
                return self._wait(watching)
        except Refused as refused:
            reason = bytes(refused.args[0])
        except OSError as error:
            reason = b"fusenotify: " + os.fsencode(describe(error))
        except (Failure, ProtocolError) as error:
            reason = b"fusenotify: " + os.fsencode(str(error))
        self._speaker.say(reason)
        if self._background is not None:
            self._background.failed(reason)
        return 1

    def _watch(self, watching: Watching, paths: Sequence[bytes], excluded: Sequence[bytes]) -> None:
        """Watch paths.  Raises Refused."""
        chosen = self._chosen
        beware = "  Beware: since -r was given, this may take a while!" * chosen.recursive
        self._say(f"Setting up watches.{beware}")
        for named in chosen.named(paths, excluded):
            chosen.watch(watching, named, self._printer.wanted, excluded, "Couldn't watch")
        self._say("Watches established.")

    def _wait(self, watching: Watching) -> int:
        """Print events until the end, and return the exit status.

        Raises OSError, ProtocolError, and Failure if a requested event can no longer come.
        """
        monitor, timeout = self._chosen.monitor, self._chosen.timeout
        deadline = math.inf
        came = True
        while watching:
            if came and timeout:
                deadline = time.monotonic() + timeout
            told = watching.read(None if not timeout else max(0.0, deadline - time.monotonic()))
            if told is None:
                return _TIMED_OUT
            came = bool(told)
            told = [one for one in told if not self._printer.leaves_out(one)]
            if not monitor:
                del told[1:]
            put(1, b"".join(map(self._printer.printed, told)))
            for one in told:
                if one.event.mask & ~self._printer.wanted & IN_Q_OVERFLOW:
                    self._speaker.say(lost(one.event))
            if told and not monitor:
                return 0 if told[0].event.mask & self._printer.wanted else 1
        if timeout:
            return _TIMED_OUT  # the status that it would have at that time
        if not monitor:
            raise Failure("what was watched is gone, and no such event came")
        self._say("Nothing is left to watch.")
        return 0

    def _say(self, text: str) -> None:
        """Write a message, unless -q was given."""
        if not self._chosen.quiet:
            self._speaker.say(text.encode())
