# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify watch``: count events as inotifywatch(1) does, and print the counts at the end.

It imitates inotifywatch as cli.wait imitates inotifywait.  docs/reference/wait.md lists the
differences, cli.inotify_tools has the common parts, cli.counted the table.

Exit status: 0 the counts were printed; 1 an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_CREATE,
    IN_DELETE_SELF,
    IN_MOVE,
    IN_Q_OVERFLOW,
)
from fusenotify.cli.counted import COLUMNS, Counted
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
    events,
    lost,
    put,
)
from fusenotify.cli.libc import Option
from fusenotify.cli.watching import Told, Watching, with_slash

_OPTIONS = [
    HELP,
    EVENT,
    Option("t", "timeout", "SECONDS", "count for so long (until a signal comes)"),
    Option("v", "verbose", "", "print more about the setup of watches"),
    Option("z", "zero", "", "print rows and columns of zeros, too"),
    Option("a", "ascending", "EVENT", "sort by an event or by total, the smallest number first"),
    Option("d", "descending", "EVENT", "sort by an event, the largest number first (total)"),
    RECURSIVE,
    *FANOTIFY,
    NO_DEREFERENCE,
    FROMFILE,
    *PATTERNS,
    IGNORE,
]
# Words that cannot be used for sorting, each with the two events that can.
_PAIRS = {
    b"move": (b"moved", b"from", b"moved", b"to"),
    b"close": (b"close", b"write", b"close", b"nowrite"),
}
# The signals that end the counting.
_ENDING = {signal.SIGINT, signal.SIGHUP, signal.SIGTERM}
# The events of a tree that are needed for each directory to keep its row.
_OF_DIRECTORIES = IN_CREATE | IN_MOVE | IN_DELETE_SELF


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    declare(parser, _OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Watch, count, and print the counts."""
    begin()
    signal.signal(signal.SIGINT, _while_setting_up())
    chosen = _WatchChosen()
    try:
        words = chosen.read("fusenotify watch", arguments.argv, _OPTIONS)
        counting = _Counting(chosen)
        with Watching(detailed=False, interruptible=True) as watching:
            counting.watch(watching, *chosen.paths(words))
            counting.count(watching)
    except HelpAsked:
        put(1, arguments.help().encode())
    except Refused as refused:
        complain(refused.args[0])
        return 1
    return 0


def _while_setting_up() -> Callable[..., None]:
    """Return the handler of SIGINT until counting begins: the second signal ends the process."""
    interrupted = False

    def handle(*_: object) -> None:
        nonlocal interrupted
        if interrupted:
            complain(
                b"No statistics collected, asked to abort before all watches could be established."
            )
            os._exit(1)
        interrupted = True  # before the message, since its reader may interrupt again at once
        complain(
            b"No statistics have been collected because I haven't finished establishing\n"
            b"inotify watches yet.  If you are sure you want me to exit, interrupt me again."
        )

    return handle


class _WatchChosen(Chosen):
    """The values of the options.  sort_by is an event, or 0 for the total."""

    def __init__(self) -> None:
        super().__init__()
        self.verbose = False
        self.zero = False
        self.sort_by = 0
        self.ascending = False
        self._key = b""

    def take(self, name: str, value: bytes) -> None:
        match name:
            case "verbose":
                self.verbose = True
            case "zero":
                self.zero = True
            case "ascending" | "descending":
                if self.ascending:
                    raise Refused(b"Please specify -a or -d once only!")
                self.ascending = name == "ascending"
                self._sort_by(value)
            case _:
                super().take(name, value)

    def check(self) -> None:
        if self.sort_by and not self.sort_by & (self.mask or IN_ALL_EVENTS):
            raise Refused(b"Can't sort by an event which isn't being watched for!")
        if self.sort_by and self.sort_by not in COLUMNS:
            raise _no_key(self._key)
        super().check()

    def _sort_by(self, key: bytes) -> None:
        """Set sort_by.  Raises Refused; with -d as late as inotifywatch, in check()."""
        self._key = key
        bits = 0 if key.lower() == b"total" else events(key)
        if bits is None or (self.ascending and key.lower() in _PAIRS):
            raise _no_key(key)
        self.sort_by = bits


def _no_key(key: bytes) -> Refused:
    pair = _PAIRS.get(key.lower())
    if pair is None:
        return Refused(b"'%s' is not a valid key for sorting!" % key)
    names = (key.lower(), *pair)
    return Refused(b"Cannot sort by `%s' event; please use `%s_%s' or `%s_%s'." % names)


class _Counting:
    """One run of the command.

    Raises Refused if the patterns are wrong.
    """

    def __init__(self, chosen: _WatchChosen) -> None:
        self._chosen = chosen
        self._filter = chosen.filter()
        self._asked = chosen.mask or IN_ALL_EVENTS
        self._counted = Counted(self._asked, recursive=chosen.recursive)
        self._signals: list[int] = []

    def watch(self, watching: Watching, paths: Sequence[bytes], excluded: Sequence[bytes]) -> None:
        """Watch paths.

        Raises Refused.
        """
        chosen = self._chosen
        complain(b"Establishing watches...")
        # Directories are listed before anything is watched, so that the listing is not counted.
        shown = set(self._list(paths, excluded)) if chosen.recursive else set[bytes]()
        roots = {named.given: named for named in chosen.named(paths, excluded)}
        mask = self._asked | _OF_DIRECTORIES * chosen.recursive
        for path in paths:
            if chosen.recursive and chosen.verbose:
                complain(b"Setting up watch(es) on " + path)
            named = roots.get(path)
            if named is not None:
                if chosen.watch(watching, named, mask, excluded, "Failed to watch"):
                    self._counted.add(named.path)
                shown.add(named.path)
            if chosen.recursive and chosen.verbose:
                complain(b"OK, %s is now being watched." % path)
        if chosen.verbose:
            complain(b"Total of %d watches." % len(shown))
        # Before the message below, since its reader may send a signal at once.
        for number in (*_ENDING, signal.SIGUSR1):
            signal.signal(number, self._on_signal(watching))
        complain(b"Finished establishing watches, now collecting statistics.")
        if chosen.timeout and chosen.verbose:
            complain(b"Will listen for events for %d seconds." % chosen.timeout)

    def count(self, watching: Watching) -> None:
        """Count until a signal, the timeout or the end of the last watch, then print the counts.

        Raises OSError, ProtocolError; the counts until then are printed.
        """
        timeout = self._chosen.timeout
        deadline = time.monotonic() + timeout
        try:
            while watching and _ENDING.isdisjoint(self._signals):
                remaining = deadline - time.monotonic() if timeout else None
                if remaining is not None and remaining <= 0:
                    break
                told = watching.read(remaining)
                if told is not None:
                    self._take(told)
                elif signal.SIGUSR1 in self._signals:
                    self._signals.remove(signal.SIGUSR1)
                    self._print()
                    put(1, b"\n")
            if not watching and not timeout:
                complain(b"Nothing is left to watch.")
            self._take(watching.last())
        finally:
            self._print()
            for number in (*_ENDING, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)

    def _on_signal(self, watching: Watching) -> Callable[..., None]:
        def handle(number: int, *_: object) -> None:
            if number in self._signals and number in _ENDING:  # in case the process hangs
                signal.signal(number, signal.SIG_DFL)
            self._signals.append(number)
            watching.interrupt()

        return handle

    def _list(self, paths: Sequence[bytes], excluded: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the paths of all directories as they will be shown, and give each a row.

        If a directory is reached in two ways, the first path counts.
        """
        known: set[tuple[int, int]] = set()
        for path in paths:
            for directory in _directories(with_slash(path), set(map(with_slash, excluded))):
                yield directory
                with suppress(OSError):  # it is gone
                    status = os.lstat(directory)
                    if (status.st_dev, status.st_ino) not in known:
                        known.add((status.st_dev, status.st_ino))
                        self._counted.add(directory)

    def _take(self, told: Sequence[Told]) -> None:
        for one in told:
            if one.event.mask & IN_Q_OVERFLOW:
                complain(lost(one.event))
            else:
                left_out = self._filter is not None and self._filter.leaves_out(one.path)
                self._counted.take(one, counts=not left_out)

    def _print(self) -> None:
        chosen = self._chosen
        table = self._counted.table(chosen.sort_by, ascending=chosen.ascending, zero=chosen.zero)
        if table:
            put(1, table)
        else:
            complain(b"No events occurred.")


def _directories(top: bytes, excluded: Container[bytes]) -> Iterator[bytes]:
    """Yield a directory and all directories below it that can be listed, from the bottom up."""
    way = [(top, _below(top))]
    while way:
        path, below = way[-1]
        if not below:
            way.pop()
            if below is not None:
                yield path
            continue
        inner = below.pop()
        if inner not in excluded:
            way.append((inner, _below(inner)))


def _below(directory: bytes) -> list[bytes] | None:
    """Return the subdirectories of a directory in reverse order; None if it cannot be listed."""
    try:
        with os.scandir(directory) as entries:
            found = [entry.path + b"/" for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return None
    return found[::-1]
