# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify since CURSOR|TIME PATH``: print what happened at and below a path since then.

The events come from the mount's journal; client.changes summarizes them.  If changes may be
missing, that is printed on stderr and shown by the exit status; with --json, it is also an
object at its place.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fusenotify.bits import IN_ISDIR, IN_MOVED_FROM, IN_Q_OVERFLOW, names
from fusenotify.cli import times
from fusenotify.cli.lines import event_words, json_object
from fusenotify.client import Client, PastEvent
from fusenotify.client.changes import Change, Changes
from fusenotify.client.known_names import known_names
from fusenotify.client.locate import locate
from fusenotify.client.scanning import merged, scan
from fusenotify.mounting.failure import Failure
from fusenotify.protocol.past import BEGINNING

# The exit status if changes may be missing.
_MISSING = 3
# After how many seconds the cursor file is written again while events arrive.
_SAVE_SECONDS = 0.2
# More than any cursor has.
_LONGEST_CURSOR = 1000
_REASONS = {
    "stopped": "no daemon ran",
    "crashed": "the daemon crashed",
    "overflow": "they came faster than the journal could be written",
    "path": "a path was too long",
    "expired": "the journal does not go back so far",
    "damaged": "the journal is damaged",
    "other journal": "the cursor is of another journal",
    "too large": "a message would have been too large",
    "future": "the cursor is newer than the journal",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "words",
        metavar="CURSOR|TIME PATH",
        nargs="+",
        help="a cursor that 'fusenotify cursor' printed, or " + times.EXAMPLES + ", and a path in "
        "the mount; with --cursor-file only the path",
    )
    parser.add_argument(
        "--cursor-file",
        metavar="FILE",
        help="begin at the cursor in FILE, and store the cursor after the last printed event "
        "there; if FILE does not exist, it is made, and earlier events are not printed",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--events", action="store_true", help="print all events (the default)")
    what.add_argument(
        "--changes", action="store_true", help="print each path once, with what happened to it"
    )
    parser.add_argument("--follow", action="store_true", help="go on with new events")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object per line, for programs"
    )
    parser.add_argument(
        "--scan",
        action="store_true",
        help="with --changes, if changes may be missing: also print the files whose attributes "
        "changed in that time, and those that the journal knows and that are gone",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print events or changes."""
    *begin, path = arguments.words
    if bool(begin) == bool(arguments.cursor_file):
        raise Failure(
            "since takes a cursor or a time, and a path; or --cursor-file FILE and a path"
        )
    if arguments.changes and arguments.follow:
        raise Failure("--changes summarizes past events, so it does not go with --follow")
    if arguments.scan and not arguments.changes:
        raise Failure("--scan goes with --changes")
    when = None if arguments.cursor_file else _time_of(" ".join(begin))
    place = _find(os.fsencode(path))
    with Client(place.socket) as client:
        if arguments.cursor_file:
            cursor = _kept(arguments.cursor_file)
            if cursor is None:
                cursor = client.cursor()
                _keep(arguments.cursor_file, cursor)
        else:
            cursor = " ".join(begin) if when is None else client.cursor(when)
        ends = not arguments.follow
        end = client.cursor() if arguments.cursor_file and ends else None
        events = client.since(cursor, place.inner, follow=arguments.follow)
        progress = _Progress(arguments.cursor_file, cursor, end, only_at_end=arguments.changes)
        with contextlib.closing(events), progress:
            if arguments.changes:
                changes = Changes()
                changes.add(progress.of(events))
                found = changes.all()
                if arguments.scan and changes.gaps:
                    known = known_names(client.since(BEGINNING, place.inner))
                    scanned = scan(place.given, place.inner, changes.gaps, known)
                    found = merged(found, scanned)
                return _print_changes(changes.gaps, found, place, arguments.json)
            return _print_events(progress.of(events), place, arguments)


def _time_of(text: str) -> int | None:
    """Return the time that a text means, in ns since 1970; None if it is a cursor.

    Raises Failure.
    """
    if text == BEGINNING or text.startswith("c:"):
        return None
    try:
        return times.nanoseconds(times.moment(text))
    except ValueError:
        raise Failure(f"{text!r} is neither a cursor nor {times.EXAMPLES}") from None


class _Place(NamedTuple):
    """The place of a path: its mount's socket, the path in the mount, and how both are shown."""

    socket: str
    inner: bytes
    given: bytes
    root: bytes

    def shown(self, path: bytes) -> bytes:
        """Return a path from the mount's root in the form to show, based on the given path."""
        inner = self.inner.strip(b"/")
        if path == inner:
            return self.given
        if not inner or path.startswith(inner + b"/"):
            rest = path[len(inner) :].lstrip(b"/")
            return self.given.rstrip(b"/") + b"/" + rest
        return self.root.rstrip(b"/") + b"/" + path  # a directory above the given path


def _find(given: bytes) -> _Place:
    """Return the place of a path, whose last components may be gone.

    Raises OSError, as locate().
    """
    # A symbolic link at the end is not followed, unless it leads into the mount from outside.
    path = os.path.join(os.path.realpath(os.path.dirname(given)), os.path.basename(given))
    if os.path.basename(given) in (b"", b".", b".."):
        path = os.path.realpath(given)
    existing, gone = path, b""
    while True:
        try:
            place = locate(existing, follow=False)
        except FileNotFoundError:
            existing, _, name = existing.rpartition(b"/")
            gone = b"/" + name + gone
            existing = existing or b"/"
            continue
        except OSError as error:
            real = os.path.realpath(existing)
            if error.errno != errno.EXDEV or real == existing:
                raise
            existing = real
            continue
        break
    with Client(place.socket) as client:
        inner = place.inner_path(client.mountpoint).rstrip(b"/")
    root = place.path[: len(place.path) - len(inner)] if inner else place.path
    return _Place(place.socket, inner + gone or b"/", given, root)


class _Progress:
    """The cursor after the last printed event, which is kept in a file if one is named.

    If there was no event, it is end, so that it does not expire for a path where nothing happens.
    With only_at_end, nothing is printed before all events have come.
    """

    def __init__(self, file: str | None, cursor: str, end: str | None, only_at_end: bool) -> None:
        self._file = file
        self._cursor = self._saved = cursor
        self._end = end
        self._only_at_end = only_at_end
        self._next = 0.0

    def of(self, events: Iterable[PastEvent]) -> Iterable[PastEvent]:
        """Yield events; asking for the next one means that the earlier ones were printed."""
        for event in events:
            yield event
            self._cursor, self._end = event.cursor, None
            if self._only_at_end or self._file is None:
                continue
            if time.monotonic() >= self._next:
                self.save()
                self._next = time.monotonic() + _SAVE_SECONDS
        self._cursor = self._end or self._cursor

    def save(self) -> None:
        """Write the cursor after the last printed event."""
        if self._file is not None and self._cursor != self._saved:
            sys.stdout.flush()
            _keep(self._file, self._cursor)
            self._saved = self._cursor

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._only_at_end and kind is not None:
            return  # nothing was printed, or not all of it
        with contextlib.suppress(BrokenPipeError):  # the last events were not printed
            self.save()


def _kept(file: str) -> str | None:
    """Return the cursor in a file, or None if there is no file, or nothing in it.

    Raises Failure if it is something else, which would be replaced; OSError.
    """
    try:
        # A pipe would not be opened before somebody writes to it.
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise Failure(f"{file} is not a regular file, so it cannot have a cursor")
        with open(file, encoding="ascii", errors="replace") as lines:
            kept = lines.read(_LONGEST_CURSOR).strip()
    except FileNotFoundError:
        return None
    if kept not in ("", BEGINNING) and not kept.startswith("c:"):
        raise Failure(f"{file} has no cursor")
    return kept or None


def _keep(file: str, cursor: str) -> None:
    """Write a cursor to a file, or to the one that a link leads to, completely or not at all."""
    file = os.path.realpath(file)
    new = f"{file}.{secrets.token_hex(4)}.new"  # of this command alone
    try:
        with open(new, "x", encoding="ascii") as written:
            written.write(f"{cursor}\n")
            written.flush()
            os.fsync(written.fileno())
        os.replace(new, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise


def _print_events(events: Iterable[PastEvent], place: _Place, arguments: argparse.Namespace) -> int:
    out = sys.stdout.buffer
    status = 0
    for event in events:
        if event.mask & IN_Q_OVERFLOW:
            status = _MISSING
        if arguments.json:
            out.write(_event_object(event, place))
        elif event.mask & IN_Q_OVERFLOW:
            _tell_missing(event)
        elif event.old_path is not None:
            moved_from = IN_MOVED_FROM | event.mask & IN_ISDIR
            out.write(past_line(moved_from, place.shown(event.old_path)))
            out.write(past_line(event.mask, place.shown(event.path)))
        else:
            out.write(past_line(event.mask, place.shown(event.path)))
        if arguments.follow:
            out.flush()
    return status


def _print_changes(
    gaps: Iterable[PastEvent], changes: Iterable[Change], place: _Place, json: bool
) -> int:
    status = 0
    for gap in gaps:
        status = _MISSING
        if json:
            sys.stdout.buffer.write(_event_object(gap, place))
        else:
            _tell_missing(gap)
    for change in changes:
        sys.stdout.buffer.write(
            _change_object(change, place) if json else _change_line(change, place)
        )
    return status


def past_line(mask: int, path: bytes) -> bytes:
    """Return an event in the form of ``fusenotify wait``."""
    directory, slash, name = path.rpartition(b"/")
    return b"%s %s %s\n" % (directory + slash, b",".join(event_words(mask)), name)


def _event_object(event: PastEvent, place: _Place) -> bytes:
    values = {"events": names(event.mask), **msgspec.structs.asdict(event)}
    for flag in ("replaced", "exchanged"):
        values[flag] = values[flag] or None
    if event.mask & IN_Q_OVERFLOW:
        del values["path"]
    else:
        values["path"] = place.shown(event.path)
        values["old_path"] = None if event.old_path is None else place.shown(event.old_path)
    return json_object(values)


def _change_line(change: Change, place: _Place) -> bytes:
    line = b"%-10s %s" % (change.kind.encode(), place.shown(change.path))
    if change.is_dir:
        line = line.rstrip(b"/") + b"/"
    if change.old_path is not None:
        line += b" from " + place.shown(change.old_path)
    return line + (b", modified" if change.modified and change.old_path else b"") + b"\n"


def _change_object(change: Change, place: _Place) -> bytes:
    return json_object(
        {
            "change": str(change.kind),
            "path": place.shown(change.path),
            "old_path": None if change.old_path is None else place.shown(change.old_path),
            "is_dir": change.is_dir,
            "modified": change.modified,
        }
    )


def _tell_missing(gap: PastEvent) -> None:
    print(missing(gap), file=sys.stderr)


def missing(gap: PastEvent) -> str:
    """Return the message for a gap."""
    reason = _REASONS.get(gap.reason or "", gap.reason or "for no known reason")
    since = f"between {_time(gap.since)} and" if gap.since else "before"
    return f"Changes {since} {_time(gap.time)} may be missing: {reason}"


def _time(nanoseconds: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((nanoseconds or 0) / 1e9))
