# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait``: print events as inotifywait(1) does.

It is a client like any other.  With -r it keeps one watch per directory
(cli.watched has their paths); cli.lines forms what is printed.  A directory is
watched before it is listed, so that nothing in it is missed; where it comes
while monitoring, the listing itself is among the events, as in inotifywait.

Exit status: 0 an event came that was asked for, or the monitored mount was
unmounted; 1 an error, or what was waited for is gone; 2 nothing came in time,
or wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time

from fusenotify.cli.lines import DEFAULT_FORMAT, DEFAULT_TIME_FORMAT, LineFormat
from fusenotify.cli.watched import WatchedPaths
from fusenotify.client import Inotify
from fusenotify.masks import (
    IN_ACCESS,
    IN_ALL_EVENTS,
    IN_CLOSE_NOWRITE,
    IN_CREATE,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_ISDIR,
    IN_MOVE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_OPEN,
    IN_Q_OVERFLOW,
    parse_events,
)
from fusenotify.mounting.failure import Failure

_TIMED_OUT = 2
# What keeps a recursive watch complete, whether or not it is printed.
_TREE_CHANGES = IN_CREATE | IN_MOVE
# What listing a directory does not cause.
_QUIET = ~(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files and directories in mounts")
    parser.add_argument(
        "-m", "--monitor", action="store_true", help="go on after the first event, until unmounted"
    )
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="watch all subdirectories, new ones too"
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
        "%%c cookie, %%T time, %%0 NUL, %%n newline, %%%% percent sign",
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
    with Inotify() as inotify:
        watcher = _Watcher(inotify, arguments, line_format)
        watcher.say("Setting up watches.")
        for path in arguments.paths:
            watcher.watch(os.fsencode(path))
        watcher.say("Watches established.")
        return watcher.wait()


class _Watcher:
    """One run of the command."""

    def __init__(
        self, inotify: Inotify, arguments: argparse.Namespace, line_format: LineFormat
    ) -> None:
        self._inotify = inotify
        self._format = line_format
        self._end_of_line = b"" if arguments.no_newline else b"\n"
        self._quiet: int = arguments.quiet
        self._monitor: bool = arguments.monitor
        self._recursive: bool = arguments.recursive
        self._timeout: float | None = arguments.timeout or None
        self._wanted = 0
        for mask in arguments.events or [IN_ALL_EVENTS]:
            self._wanted |= mask
        # Only a monitor lives long enough to see new directories.
        self._keeps_tree = self._recursive and self._monitor
        self._mask = self._wanted | (_TREE_CHANGES if self._keeps_tree else 0)
        # Until all directories are found; a mask must ask for something.
        self._quiet_mask = self._mask & _QUIET or IN_CREATE
        self._paths = WatchedPaths()
        self._roots: list[bytes] = []
        # A directory that left one watched place, until the next event shows
        # whether it arrived at another: its cookie and its old path.
        self._leaving: tuple[int, bytes] | None = None

    def say(self, text: str) -> None:
        """Tell the user what goes on."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def watch(self, path: bytes) -> None:
        """Watch what the user named, with -r all directories below it too.

        Raises Failure where it cannot be watched.
        """
        is_directory = os.path.isdir(path)
        if is_directory:
            path = path.rstrip(b"/") + b"/"
        recursive = is_directory and self._recursive
        mask = self._quiet_mask if recursive else self._mask
        try:
            wd = self._inotify.add_watch(_bare(path), mask)
        except OSError as error:
            raise Failure(f"{os.fsdecode(path)}: cannot be watched: {error.strerror}") from error
        self._paths.set(wd, path)
        self._roots.append(path)
        if recursive:
            below = self._watch_below(path, mask)
            if mask != self._mask:
                self._inotify.sync()  # our own listing of directories is over
                for directory in [path, *below]:
                    self._add(directory, self._mask)

    def wait(self) -> int:
        """Print events until the end, and return the exit status.

        Raises Failure where what was waited for can no longer come.
        """
        deadline = self._deadline()
        while self._paths:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            events = self._inotify.read(timeout=remaining)
            if not events:
                return _TIMED_OUT
            for event in events:
                if self._print(event.wd, event.mask, event.cookie, event.name):
                    if not self._monitor:
                        return 0
                    deadline = self._deadline()
                self._follow(event.wd, event.mask, event.cookie, event.name)
            sys.stdout.buffer.flush()
        if not self._monitor:
            raise Failure("what was watched is gone, and no such event came")
        self.say("Nothing is left to watch.")
        return 0

    def _deadline(self) -> float | None:
        return time.monotonic() + self._timeout if self._timeout else None

    def _print(self, wd: int, mask: int, cookie: int, name: bytes | None) -> bool:
        """Print an event, and return whether it is one that was asked for."""
        path = self._paths.get(wd)
        if path is None or not mask & self._wanted:
            return False
        if self._quiet < 2:
            line = self._format.line(path, mask, cookie, name)
            sys.stdout.buffer.write(line + self._end_of_line)
        return True

    def _follow(self, wd: int, mask: int, cookie: int, name: bytes | None) -> None:
        """Keep watches and paths up to date after an event."""
        if mask & IN_Q_OVERFLOW:
            self.say("Events were lost: they came faster than they were read.")
            if self._keeps_tree:
                for root in self._roots:
                    self._watch_below(root, self._mask)
            return
        if mask & IN_IGNORED:
            self._paths.forget(wd)
            return
        arrived_from = self._settle_leaving(mask, cookie)
        if not (self._keeps_tree and mask & IN_ISDIR and name):
            return
        parent = self._paths.get(wd)
        if parent is None:
            return
        directory = parent + name + b"/"
        if mask & IN_MOVED_FROM:
            self._leaving = (cookie, directory)
        elif mask & IN_MOVED_TO and arrived_from is not None:
            self._paths.moved(arrived_from, directory)
            if not self._paths.below(directory):  # it left before it could be watched
                self._watch_tree(directory, self._mask)
        elif mask & (IN_CREATE | IN_MOVED_TO):
            self._watch_tree(directory, self._mask)

    def _settle_leaving(self, mask: int, cookie: int) -> bytes | None:
        """Return the old path of a directory that arrives with this event.

        One that left with the event before and does not arrive is out of the
        tree: its watches go.
        """
        if self._leaving is None:
            return None
        old_cookie, old_path = self._leaving
        self._leaving = None
        if mask & IN_MOVED_TO and cookie == old_cookie:
            return old_path
        for wd in self._paths.below(old_path):
            self._paths.forget(wd)
            # It may have been deleted since; a lost connection shows at the next read.
            with contextlib.suppress(OSError):
                self._inotify.rm_watch(wd)
        return None

    def _watch_tree(self, directory: bytes, mask: int) -> list[bytes]:
        """Watch a directory that was found, and all below it; return their paths."""
        if not self._add(directory, mask):
            return []
        return [directory, *self._watch_below(directory, mask)]

    def _watch_below(self, directory: bytes, mask: int) -> list[bytes]:
        try:
            with os.scandir(directory) as entries:
                found = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []  # gone, or not ours to read: then there is nothing we can see
        return [path for below in found for path in self._watch_tree(below + b"/", mask)]

    def _add(self, directory: bytes, mask: int) -> bool:
        try:
            wd = self._inotify.add_watch(_bare(directory), mask | IN_ONLYDIR | IN_DONT_FOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return False  # gone again, or replaced, before we came
        except OSError as error:
            self.say(f"Couldn't watch {os.fsdecode(directory)}: {error.strerror}")
            return False
        self._paths.set(wd, directory)
        return True


def _bare(path: bytes) -> bytes:
    """Return a path without the slash behind, which would make a link followed."""
    return path.rstrip(b"/") or path[:1]


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
