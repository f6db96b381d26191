# SPDX-License-Identifier: GPL-2.0-or-later
"""The common parts of inotifywait and inotifywatch, for cli.wait and cli.watch.

These are options, events, timeouts, lists of paths, patterns, and the messages of
inotify-tools 3.22 about them, which scripts may look for.  docs/reference/wait.md
has the differences.

Everything from outside is bytes, since names and arguments need not be text.
"""

from __future__ import annotations

import argparse
import errno
import locale
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from fusenotify import bits
from fusenotify.bits import IN_DONT_FOLLOW
from fusenotify.cli.libc import Arguments, BadOption, Option, Pattern
from fusenotify.cli.watching import AnyEvent, Named, Watching, named, named_trees
from fusenotify.client.events import DetailedInotifyEvent
from fusenotify.client.locate import is_out_of_sight
from fusenotify.protocol.errors import ProtocolError

# The words for -e, in upper or lower case.
EVENTS = {
    word.encode(): int(getattr(bits, f"IN_{word}"))
    for word in (
        *("ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN"),
        *("MOVED_FROM", "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "UNMOUNT"),
        *("Q_OVERFLOW", "IGNORED", "CLOSE", "MOVE_SELF", "MOVE", "ISDIR", "ONESHOT"),
        "ALL_EVENTS",
    )
}
# The numbers that strtol(3) accepts, without leading zeros, and the largest one that it returns.
_NUMBER = re.compile(rb"[ \t-\r]*([+-]?)(?:0*)([0-9]+)")
_MOST_LONG = sys.maxsize
# Seconds are an unsigned int.
_SECONDS = 1 << 32
# Errors of a path, which are printed like inotifywait does; for other errors we know more.
_PLAIN = {
    *(errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENOMEM),
}

# The options of both programs.  Lists have the order of the programs, in which libc lists
# ambiguous ones.
HELP = Option("h", "help", "", "show this help and exit")
EVENT = Option("e", "event", "EVENT[,EVENT...]", "only these events; may be repeated (all)")
RECURSIVE = Option("r", "recursive", "", "watch everything that is or will be below a directory")
NO_DEREFERENCE = Option("P", "no-dereference", "", "watch a symbolic link itself, not its target")
FROMFILE = Option("", "fromfile", "FILE", "read paths from FILE, one per line; - is stdin")
# The options of a program that is built with fanotify, which are accepted and have no effect.
FANOTIFY = [Option("I", "inotify"), Option("F", "fanotify"), Option("S", "filesystem")]
PATTERNS = [
    Option("", "exclude", "PATTERN", "leave out paths that match the POSIX extended expression"),
    Option("", "excludei", "PATTERN", "like --exclude, ignoring case"),
    Option("", "include", "PATTERN", "leave out paths that do not match the expression"),
    Option("", "includei", "PATTERN", "like --include, ignoring case"),
]
IGNORE = Option(
    "",
    "ignore",
    "PATTERN",
    "leave out paths that a line of .gitignore in the watched directory would match; may be "
    "repeated, each is a line (not in inotify-tools)",
)
EPILOG = f"Events: {b', '.join(sorted(EVENTS)).lower().decode()}."


class Refused(Exception):
    """The arguments are refused.  args[0] is the message of inotify-tools, in bytes.

    The message is empty if libc has printed it already.
    """


class HelpAsked(Exception):
    """-h was given."""


class Chosen:
    """The values of the options that both programs have.

    mask has the events of -e.  timeout is in seconds.  patterns has POSIX expressions by
    the names of their options, ignored has patterns of gitignore(5).
    """

    def __init__(self) -> None:
        self.mask = 0
        self.timeout = 0
        self.recursive = False
        self.no_dereference = False
        self.fromfile: bytes | None = None
        self.patterns: dict[str, bytes] = {}
        self.ignored: list[bytes] = []

    def read(
        self, program: str, words: Sequence[bytes], options: Sequence[Option]
    ) -> Sequence[bytes]:
        """Parse all options and return the other arguments.

        Raises HelpAsked, Refused.
        """
        arguments = Arguments(program, words, options)
        bad = False
        try:
            for name, value in arguments:
                self.take(name, value)
        except BadOption:
            bad = True
        self.check()
        if bad:
            raise Refused(b"")
        return arguments.rest

    def take(self, name: str, value: bytes) -> None:
        """Store one option with its argument.

        Raises HelpAsked, Refused.
        """
        match name:
            case "help":
                raise HelpAsked
            case "event":
                self.mask |= _mask(value)
            case "timeout":
                self.timeout = _seconds(value)
            case "recursive":
                self.recursive = True
            case "no-dereference":
                self.no_dereference = True
            case "fromfile":
                if self.fromfile is not None:
                    raise Refused(b"Multiple --fromfile options given.")
                self.fromfile = value
            case "ignore":
                self.ignored.append(value)
            case "exclude" | "excludei" | "include" | "includei":
                self.patterns[name] = value

    def check(self) -> None:
        """Raise Refused if options contradict each other."""
        given = self.patterns.keys()
        for kind in ("exclude", "include"):
            if {kind, f"{kind}i"} <= given:
                raise Refused(f"--{kind} and --{kind}i cannot both be specified.".encode())
        if len(given) > 1:
            raise Refused(b"include and exclude regexp cannot both be specified.")

    def filter(self) -> Filter | None:
        """Return the filter of the patterns, or None without patterns.

        Raises Refused for an invalid expression.
        """
        for name, pattern in self.patterns.items():
            kind = name.removesuffix("i")
            try:
                return Filter(pattern, ignore_case=name != kind, inverted=kind == "include")
            except ValueError:
                raise Refused(f"Error in `{kind}' regular expression.".encode()) from None
        return None

    def paths(self, arguments: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return the paths to watch, and those of directories below to leave out (@PATH).

        Raises Refused if there is nothing to watch.
        """
        words = [] if self.fromfile is None else _lines(self.fromfile)
        words += arguments
        named = [word for word in words if word and not word.startswith(b"@")]
        excluded = [word[1:] for word in words if word.startswith(b"@") and word != b"@"]
        if not named:
            raise Refused(b"No files specified to watch!")
        return named, excluded

    def named(self, paths: Sequence[bytes], excluded: Sequence[bytes]) -> list[Named]:
        """Return the objects to watch."""
        return named_trees(paths, excluded) if self.recursive else [named(path) for path in paths]

    def watch(
        self,
        watching: Watching,
        what: Named,
        mask: int,
        excluded: Sequence[bytes],
        sentence: str,
    ) -> bool:
        """Watch an object, and return whether it was not watched before.

        Raises Refused.  sentence is the beginning of the message, except for too many watches.
        """
        try:
            if self.recursive and not is_out_of_sight(what.given):
                os.stat(what.given)  # a dangling link is not a tree, not even with -P
            mask |= IN_DONT_FOLLOW * self.no_dereference
            return watching.add(what, mask, excluded, self.ignored)
        except (OSError, ProtocolError) as error:
            raise _cannot_watch(what.given, error, sentence) from error


class Filter:
    """A pattern that leaves out events by the path of their object."""

    def __init__(self, pattern: bytes, *, ignore_case: bool, inverted: bool) -> None:
        self._pattern = Pattern(pattern, ignore_case=ignore_case)
        self._inverted = inverted

    def leaves_out(self, path: bytes) -> bool:
        """Return whether events of path are left out."""
        return self._pattern.matches(path) != self._inverted


def declare(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Declare options to argparse, which only prints the help; libc parses the options."""
    parser.epilog = EPILOG
    for option in options:
        if option.name == HELP.name or not option.help:
            continue
        flags = [f"-{option.letter}"] * bool(option.letter) + [f"--{option.name}"]
        if option.argument:
            parser.add_argument(*flags, metavar=option.argument, help=option.help)
        else:
            parser.add_argument(*flags, action="store_true", help=option.help)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files and directories in mounts")
    parser.add_argument(
        "not_watched", metavar="@PATH", nargs="*", help="with -r, a directory that is not watched"
    )


def begin() -> None:
    """Set the process up as inotify-tools do: the "C" locale, and descriptors 0 to 2 open."""
    locale.setlocale(locale.LC_ALL, "C")
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # This takes the lowest free number, so that no socket becomes our standard output.
            os.open(os.devnull, os.O_RDWR)


def put(descriptor: int, data: bytes) -> None:
    """Write all data; if there is no reader, end by SIGPIPE.

    Raises OSError.
    """
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        end_by(signal.SIGPIPE)


def end_by(number: signal.Signals) -> NoReturn:
    """End the process by a signal."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise AssertionError("a signal whose action is to end the process did not")


def complain(text: bytes) -> None:
    """Print a message on stderr, unless it is empty or there is no stderr."""
    if not text:
        return
    with suppress(OSError):
        put(2, text + b"\n")


def lost(event: AnyEvent) -> bytes:
    """Return the message for an overflow."""
    count = event.lost if isinstance(event, DetailedInotifyEvent) else None
    what = (
        "Events were" if count is None else "1 event was" if count == 1 else f"{count} events were"
    )
    return f"{what} lost: they came faster than they were read.".encode()


def _cannot_watch(path: bytes, error: OSError | ProtocolError, sentence: str) -> Refused:
    """Return the message: that of inotify-tools, and details that they cannot know."""
    if isinstance(error, ProtocolError) or error.errno is None:
        return Refused(b"%s %s: %s" % (sentence.encode(), path, os.fsencode(str(error))))
    plain = os.strerror(error.errno)
    if error.errno in _PLAIN:
        detail = ""
    else:
        detail = (error.strerror or "").removeprefix(plain).removeprefix(": ")
    if error.errno not in (errno.ENOSPC, errno.EMFILE):
        reason = os.fsencode(detail or plain)
        return Refused(b"%s %s: %s" % (sentence.encode(), path, reason))
    if error.errno == errno.ENOSPC:
        said = b"Failed to watch %s; upper limit on inotify watches reached!" % path
    else:
        said = b"Couldn't initialize inotify: " + plain.encode()
    if "max_user" in detail:
        detail += ": 'fusenotify limits' shows and sets it"
    return Refused(said + b"\n" * bool(detail) + os.fsencode(detail[:1].upper() + detail[1:]))


def events(text: bytes) -> int | None:
    """Return the mask of events separated by commas; None if one is unknown.

    If one is empty, the mask is 0 whatever the others are, as in inotifywait.
    """
    mask = 0
    rest = text
    while rest:
        word, comma, rest = rest.partition(b",")
        event = EVENTS.get(word.upper(), 0)
        if word and not event:
            return None
        if not word or (comma and not rest):
            return 0
        mask |= event
    return mask


def _mask(text: bytes) -> int:
    """Return the mask of -e.  Raises Refused."""
    mask = events(text)
    if mask is None:
        raise Refused(
            b"'%s' is not a valid event!  Run with the '--help' option to see a list of events."
            % text
        )
    return mask


def _seconds(text: bytes) -> int:
    """Return the seconds of -t.  Raises Refused."""
    if not text:
        raise Refused(
            b"The provided value is not a valid timeout value.\nPlease specify a long int value."
        )
    number = _NUMBER.match(text)
    if number is not None and (
        len(number[2]) > len(str(_MOST_LONG)) or int(number[2]) > _MOST_LONG + (number[1] == b"-")
    ):
        reason = os.strerror(errno.ERANGE).encode()
        raise Refused(b"Something went wrong with the timeout value you provided.\n" + reason)
    if number is None or number.end() < len(text):
        raise Refused(
            b"'%s' is not a valid timeout value.\nPlease specify a long int value." % text
        )
    return int(number[1] + number[2]) % _SECONDS


def _lines(path: bytes) -> list[bytes]:
    """Return the lines of a file; if it cannot be read, print that on stderr and go on.

    A NUL byte ends a line's path, as in C.
    """
    try:
        with open(0 if path == b"-" else path, "rb") as file:
            return [re.split(rb"[\0\n]", line, maxsplit=1)[0] for line in file]
    except OSError as error:
        complain(b"Couldn't open %s: %s" % (path, (error.strerror or "").encode()))
        return []
