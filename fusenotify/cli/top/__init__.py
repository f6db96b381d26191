# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify top MNT``: a live view of events, by type, place and process, and of clients.

cli.top.source asks the daemon, cli.top.activity counts, cli.top.frame draws, and
cli.top.terminal handles the terminal.  If standard output is not a terminal, frames are printed
one after the other, as ``top -b`` does.

Exit status: 0 if it was ended by a key or Ctrl-C, has printed all frames, or the mount was
unmounted; 1 if the daemon is gone.  Other signals end it as they end any program.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as Late
from datetime import datetime

from rich.console import Console

from fusenotify import mountinfo
from fusenotify.cli.counts import count
from fusenotify.cli.printable import printable
from fusenotify.cli.threads import in_thread
from fusenotify.cli.top import frame
from fusenotify.cli.top.frame import Painter, View
from fusenotify.cli.top.source import Source, connected
from fusenotify.cli.top.terminal import Ended, Size, Terminal
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import ANSWER_SECONDS

# The shortest and the longest time between two frames.
_MIN_SECONDS, _MAX_SECONDS = 0.1, 86_400.0
# How many rows of a table are sampled: a terminal may have so many lines, and JSON shows all.
_ROWS = 200
# After how many seconds without an answer the view says so.
_SILENT_SECONDS = 2.0
# How many seconds a frame waits for an answer.
_GRACE_SECONDS = 0.5
# The width of output to a file.
_FILE_WIDTH = 132
_HINT = "q quits, space pauses"
_QUIT, _PAUSE, _REDRAW = b"qQ\x03\x04", b" ", b"\x0c"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "path",
        metavar="MNT",
        nargs="?",
        help="the mount, or a directory in it (the only mount there is)",
    )
    which.add_argument("--socket", metavar="PATH", help="the daemon that listens there")
    parser.add_argument(
        "-d",
        "--delay",
        metavar="SECONDS",
        type=_seconds,
        default=1.0,
        help="the time between two frames (%(default)g)",
    )
    parser.add_argument(
        "-n", "--iterations", metavar="N", type=_frames, help="end after so many frames"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "-b",
        "--batch",
        action="store_true",
        help="print frames one after the other, as to an output that is not a terminal",
    )
    how.add_argument("--once", action="store_true", help="print one frame, like -b -n 1")
    how.add_argument("--json", action="store_true", help="print each frame as a line of JSON")
    how.add_argument(
        "--screenshot",
        metavar="FILE",
        help="write the last frame (by default the first) as a picture (SVG) of a terminal with "
        "COLUMNS and LINES (80 and 24)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Show views until the end."""
    path = arguments.path
    if path is None and arguments.socket is None:
        path = _only_mount()
    name = path if path is not None else arguments.socket
    started = in_thread(lambda: connected(path, arguments.socket))
    try:
        source = started.result(ANSWER_SECONDS)
    except Late:
        raise Failure(f"{name}: its daemon does not answer; is it stopped?") from None
    views = _Views(source, arguments.delay)
    frames = arguments.iterations
    with source:
        if arguments.screenshot is not None:
            _picture(views, arguments.screenshot, frames or 1, name)
        elif arguments.batch or arguments.once or arguments.json or not sys.stdout.isatty():
            _print(views, 1 if arguments.once else frames, as_json=arguments.json)
        else:
            _show(views, frames)
        end = source.end
    if end is None:
        return 0
    if not end.in_order:
        raise Failure(f"{name}: {end.reason}")
    print(f"fusenotify: {printable(name)}: {end.reason}", file=sys.stderr)
    return 0


class _Views:
    """Makes a view whenever one is due, with the events until then and a new status."""

    def __init__(self, source: Source, delay: float) -> None:
        self.source = source
        self.paused = False
        self._delay = delay
        self._due = time.monotonic()
        self._asked_at: float | None = None

    def begin(self, *, at_once: bool) -> None:
        """Make the first view at once, or after the delay."""
        self._due = time.monotonic() + (0 if at_once else self._delay)

    def step(self) -> View | None:
        """Ask the daemon if a view is due; return the view once it has answered or is late."""
        now = time.monotonic()
        if self._asked_at is None and now >= self._due and not self.paused:
            self._asked_at = now
            self.source.ask()
        if self._asked_at is None or not self._is_answered(now):
            return None
        self._asked_at = None
        self._due = max(self._due + self._delay, now)
        return self.view()

    def view(self) -> View:
        """Return a view of the present state."""
        source = self.source
        asked_since = source.asked_since
        silent = 0.0 if asked_since is None else time.monotonic() - asked_since
        return View(
            at=datetime.now(),
            directory=source.directory,
            sample=source.activity.sample(_ROWS),
            status=source.status,
            silent=silent if silent >= _SILENT_SECONDS else None,
        )

    def seconds_left(self) -> float:
        """Return for how many seconds there is nothing to do, unless the source changes."""
        if self.paused and self._asked_at is None:
            return _MAX_SECONDS
        until = self._due if self._asked_at is None else self._asked_at + _GRACE_SECONDS
        return max(0.0, until - time.monotonic())

    def _is_answered(self, now: float) -> bool:
        assert self._asked_at is not None
        return self.source.asked_since is None or now >= self._asked_at + _GRACE_SECONDS


def _each(views: _Views, frames: int | None) -> Iterator[View]:
    """Yield so many views when they are due; stop when the source ends."""
    changed = threading.Event()
    views.source.changed = changed.set
    views.begin(at_once=False)
    while frames is None or frames > 0:
        ended = views.source.end is not None
        view = views.view() if ended else views.step()
        if view is not None:
            yield view
            frames = None if frames is None else frames - 1
        if ended:
            return
        if view is None:
            changed.wait(views.seconds_left())
            changed.clear()


def _print(views: _Views, frames: int | None, *, as_json: bool) -> None:
    """Print frames one after the other."""
    console = Console(highlight=False, width=_size(_FILE_WIDTH, 0).width)
    painter = Painter(console)
    for number, view in enumerate(_each(views, frames)):
        if as_json:
            print(json.dumps(frame.as_json(view)))
        else:
            print(("\n" if number else "") + painter.text(view), end="")
        sys.stdout.flush()


def _picture(views: _Views, file: str, frames: int, name: str) -> None:
    """Write the last frame as a picture."""
    *_, view = _each(views, frames)
    with open(file, "w", encoding="utf-8") as picture:
        picture.write(frame.as_svg(view, f"fusenotify top {printable(name)}", *_size(80, 24)))


def _size(width: int, height: int) -> Size:
    """Return the size in COLUMNS and LINES, or that of the terminal, or the given one."""
    return Size(*shutil.get_terminal_size((width, height)))


def _show(views: _Views, frames: int | None) -> None:
    """Draw on the terminal until a key, a signal or the source ends it."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        raise Failure(
            f"a terminal of type '{os.environ['TERM']}' (TERM) cannot be drawn on; use -b to print"
        )
    console = Console(
        file=io.StringIO(), force_terminal=True, legacy_windows=False, highlight=False
    )
    try:
        with Terminal() as terminal:
            views.source.changed = terminal.wake
            _draw(views, frames, terminal, Painter(console, _HINT))
    except Ended as ended:
        (number,) = ended.args
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def _draw(views: _Views, frames: int | None, terminal: Terminal, painter: Painter) -> None:
    """Draw frames until a key or the source ends it.

    Raises Ended.
    """
    views.begin(at_once=True)
    view, size = views.view(), terminal.size
    while views.source.end is None and (frames is None or frames > 0):
        due = views.step()
        if due is not None:
            view = due
            frames = None if frames is None else frames - 1
        shown = dataclasses.replace(view, paused=views.paused)
        if size != terminal.size:
            size = terminal.size
            terminal.forget()  # it may have moved the old lines
        terminal.draw(painter.lines(shown, *size))
        keys = terminal.wait(views.seconds_left()) or b""
        if any(key in _QUIT for key in keys):
            return
        if _REDRAW in keys:
            terminal.forget()
        views.paused ^= keys.count(_PAUSE) % 2 == 1


def _only_mount() -> str:
    """Return the mount point of the only mount.

    Raises Failure.
    """
    points = {
        os.fsdecode(mount.mountpoint)
        for mount in mountinfo.mounts()
        if mount.fstype == mountinfo.FSTYPE
    }
    if not points:
        raise Failure("nothing is mounted; use 'fusenotify mount SOURCE MNT'")
    if len(points) > 1:
        raise Failure(f"there are several mounts; name one of {', '.join(sorted(points))}")
    return points.pop()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a number of seconds between {_MIN_SECONDS:g} and {_MAX_SECONDS:g}"
        )
    return seconds


def _frames(text: str) -> int:
    frames = count(text)
    if not frames:
        raise argparse.ArgumentTypeError("'0' is not a number of 1 or more")
    return frames
