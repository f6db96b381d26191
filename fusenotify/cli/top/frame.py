# SPDX-License-Identifier: GPL-2.0-or-later
"""The frames of ``fusenotify top``, drawn by rich, and as JSON.

cli.top fills in a View.  Names in it come from outside, so they are shown through
cli.printable.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from fusenotify.cli.printable import printable, user_name
from fusenotify.cli.report import client_fields
from fusenotify.cli.top.activity import Actor, Row, Sample
from fusenotify.plain import plain
from fusenotify.protocol.messages import Status
from fusenotify.protocol.status import ClientStatus, DeviceStatus

# The smallest terminal, in columns and lines.
MIN_WIDTH, MIN_HEIGHT = 70, 16
# From this width on, there is a column for the users of commands.
_WIDE = 76
# The width of the table of types.
_TYPES_WIDTH = 33
# The number of types of events.
_TYPES = 14
# How many rows each table has if the height is not limited, as in a file.
BATCH_ROWS = 10
_CUT = "..."
# The fonts that rich's pictures would make a browser fetch.  Each text has its length, so any font
# will do.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
# Shown instead of a command that the daemon does not tell.
_HIDDEN = "(not shown to you)"


@dataclass(frozen=True, slots=True)
class View:
    """The contents of one frame.

    directory is the watched directory, from the mount's root.  status is the daemon's
    latest answer, or None before the first one.  silent is for how many seconds an answer
    has been waited for, if that is long.  paused says that the view is paused; note is
    shown below it.
    """

    at: datetime
    directory: bytes
    sample: Sample
    status: Status | None
    silent: float | None = None
    paused: bool = False
    note: str = ""


class Painter:
    """Draws views.  hint is a text about the keys, which is shown below them."""

    def __init__(self, console: Console, hint: str = "") -> None:
        self._console = console
        self._hint = hint

    def lines(self, view: View, width: int, height: int) -> list[str]:
        """Return a view as so many lines, with a terminal's codes for colours."""
        console = self._console
        console.size = ConsoleDimensions(width, height)
        frame = _too_small(width, height) if _is_small(width, height) else self.frame(view, height)
        rendered = console.render_lines(frame, console.options.update(width=width), pad=True)
        shaped = Segment.set_shape(rendered, width, height)
        with console.capture() as captured:
            for line in shaped:
                console.print(Segments([*line, Segment.line()]), end="", soft_wrap=True)
        return captured.get().split("\n")[:height]

    def text(self, view: View) -> str:
        """Return a view for a file, without a limit of its height."""
        with self._console.capture() as captured:
            self._console.print(self.frame(view, None), soft_wrap=False)
        return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"

    def frame(self, view: View, height: int | None) -> RenderableType:
        """Return a view that fits so many lines."""
        width = self._console.width
        upper = directories = clients = BATCH_ROWS
        if height is not None:
            # Three lines above, one below, and a heading and an empty line for each table.
            rows = height - 10
            upper = max(3, min(_TYPES, rows * 2 // 5))
            directories = max(1, (rows - upper) // 2)
            clients = max(1, rows - upper - directories)
        types = _types(view.sample, upper)
        busiest = _directories(view, directories, width)
        listening = _clients(view.status, clients)
        if height is not None:  # so that a table does not move when the one above it changes
            for table, rows in ((types, upper), (busiest, directories), (listening, clients)):
                for _ in range(rows - table.row_count):
                    table.add_row()
        parts: list[RenderableType] = [
            *_heading(view, width),
            Text(),
            _side_by_side(types, _actors(view.sample, upper, width)),
            Text(),
            busiest,
            Text(),
            listening,
        ]
        if height is not None:
            parts.append(_footer(view, self._hint))
        return Group(*parts)


def as_svg(view: View, title: str, width: int, height: int) -> str:
    """Return a picture of a view on a terminal of that size."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=width,
        height=height,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
    )
    console.print(Painter(console).frame(view, height))
    picture = console.export_svg(title=title, unique_id="fusenotify-top")
    return _FONT.sub("", picture)


def as_json(view: View) -> dict[str, Any]:
    """Return a view for a program."""
    sample, status = view.sample, view.status
    return {
        "time": view.at.timestamp(),
        "seconds": sample.seconds,
        **plain({"directory": view.directory}),
        "seen": {"lately": sample.seen.lately, "total": sample.seen.total},
        "lost": {"lately": sample.lost.lately, "total": sample.lost.total},
        "events": [_json_row({"event": row.what}, row) for row in sample.events],
        "directories": [
            _json_row({"path": _below(view.directory, row.what)}, row) for row in sample.directories
        ],
        "commands": [
            _json_row({"command": row.what.command, "uid": row.what.uid}, row)
            for row in sample.actors
        ],
        "answers": view.silent is None,
        "clients": [] if status is None else [*map(client_fields, status.clients)],
    }


def _json_row(what: dict[str, Any], row: Row[Any]) -> dict[str, Any]:
    return {**plain(what), "lately": row.lately, "total": row.total}


def _is_small(width: int, height: int) -> bool:
    return width < MIN_WIDTH or height < MIN_HEIGHT


def _too_small(width: int, height: int) -> RenderableType:
    return Text(
        f"This terminal has {width} columns and {height} lines; "
        f"{MIN_WIDTH} and {MIN_HEIGHT} are needed. q quits.",
        overflow="fold",
    )


def _heading(view: View, width: int) -> Iterator[Text]:
    """Yield a line each about the mount, the daemon and the events."""
    status, sample = view.status, view.sample
    clock = view.at.strftime("%H:%M:%S")
    if status is None:
        yield _spread(Text("waiting for the daemon's status"), Text(clock), width)
        yield Text()
    else:
        place = printable(status.mountpoint.rstrip(b"/") + view.directory.rstrip(b"/")) or "/"
        room = width - len(clock) - 1
        title = Text(_cut(place, room), style="bold", no_wrap=True)
        left = room - title.cell_len - len(" shows ")
        if left > len(_CUT):
            title.append(f" shows {_cut(printable(status.source), left)}", style="not bold")
        yield _spread(title, Text(clock), width)
        devices = sum(len(client.devices) for client in status.clients)
        whose = "" if status.statistics is not None else " of yours"
        yield _line(
            f"{printable(status.server)}, pid {status.pid}, {printable(status.semantics)}, "
            f"up {timedelta(seconds=round(status.uptime))}, "
            f"{_count(len(status.clients), 'client')}{whose} with {_count(devices, 'device')}",
            width,
        )
    rate = _rate(sample.seen.lately, sample.seconds)
    text = Text(f"{rate} events/s, {sample.seen.total:,} in all", no_wrap=True)
    lost = sample.lost
    text.append(f", {lost.total:,} lost by this view", style="bold red" if lost.lately else "")
    if status is not None and status.statistics is not None:
        overflows = status.statistics.overflows
        text.append(f"; {_count(overflows, 'overflow')} in all queues")
    text.truncate(width)
    yield text


def _footer(view: View, hint: str) -> Text:
    if view.silent is not None:
        return Text(
            f"the daemon has not answered for {view.silent:.0f} s; is it stopped?",
            style="bold red",
            no_wrap=True,
        )
    text = Text(hint, style="dim", no_wrap=True)
    if view.paused:
        text = Text("paused; space goes on", style="bold", no_wrap=True)
    return text.append(view.note)


def _side_by_side(left: RenderableType, right: RenderableType) -> Table:
    table = Table.grid(expand=True, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(width=_TYPES_WIDTH)
    table.add_column(ratio=1)
    table.add_row(left, right)
    return table


def _table(*headings: str, numbers: int) -> Table:
    """Return a table with so many columns of numbers; the next one takes the rest of the width."""
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="right" if number < numbers else "left",
            ratio=1 if number == numbers else None,
            no_wrap=True,
            overflow="crop",
        )
    return table


def _counted(rows: Sequence[Row[Any]], most: int, sample: Sample) -> Iterator[tuple[Any, str, str]]:
    for row in itertools.islice(rows, most):
        yield row.what, _rate(row.lately, sample.seconds), f"{row.total:,}"


def _types(sample: Sample, most: int) -> Table:
    table = _table(f"{'/s':>7}", f"{'total':>9}", "event", numbers=2)
    for event, rate, total in _counted(sample.events, most, sample):
        table.add_row(rate, total, event)
    return table


def _actors(sample: Sample, most: int, width: int) -> Table:
    table = _table(
        f"{'/s':>7}", f"{'total':>9}", "command", *["user"] * (width >= _WIDE), numbers=2
    )
    actor: Actor
    for actor, rate, total in _counted(sample.actors, most, sample):
        user = [Text(_cut(_user(actor.uid), 12))] * (width >= _WIDE)
        table.add_row(rate, total, Text(_command(actor)), *user)
    return table


def _directories(view: View, most: int, width: int) -> Table:
    table = _table(f"{'/s':>7}", f"{'total':>9}", "directory", numbers=2)
    room = max(10, width - 22)
    for path, rate, total in _counted(view.sample.directories, most, view.sample):
        table.add_row(rate, total, Text(_cut(printable(_below(view.directory, path)), room)))
    return table


def _clients(status: Status | None, most: int) -> Table:
    table = _table("queued", f"{'of':>6}", "overflows", "lost", "watches", "client", numbers=5)
    clients = [] if status is None else status.clients
    devices = [(client, device) for client in clients for device in client.devices]
    devices.sort(key=lambda each: _urgency(each[1]))
    for client, device in devices[:most]:
        full = device.queued >= device.max_queued_events
        half = 2 * device.queued >= device.max_queued_events
        style = "bold red" if full else "yellow" if half else ""
        table.add_row(
            Text(f"{device.queued:,}", style=style),
            Text(f"{device.max_queued_events:,}"),
            f"{device.overflows:,}",
            f"{device.lost:,}",
            f"{device.watches:,}",
            Text(_client(client, device)),
        )
    return table


def _urgency(device: DeviceStatus) -> tuple[float, int, int]:
    """Return a sort key: devices with the fullest queues come first, then those that lost most."""
    room = max(1, device.max_queued_events)
    return -device.queued / room, -device.lost, -device.overflows


def _client(client: ClientStatus, device: DeviceStatus) -> str:
    command = "" if client.command is None else f"{printable(client.command)} "
    foreign = ", another user namespace" if client.foreign else ""
    return f"{command}{client.pid}, {_user(client.uid)}, device {device.device}{foreign}"


def _command(actor: Actor) -> str:
    if actor.command is not None:
        return printable(actor.command)
    return _HIDDEN if actor.uid is None else "(not known)"


def _user(uid: int | None) -> str:
    return "" if uid is None else printable(user_name(uid))


def _below(directory: bytes, path: bytes) -> bytes:
    """Return the path, from the mount's root, of a path from the watched directory."""
    return directory.rstrip(b"/") + b"/" + path if path else directory


def _line(text: str, width: int) -> Text:
    return Text(_cut(text, width), no_wrap=True)


def _spread(left: Text, right: Text, width: int) -> Text:
    """Return two texts at both ends of a line."""
    space = max(1, width - left.cell_len - right.cell_len)
    return Text.assemble(left, " " * space, right, no_wrap=True)


def _cut(text: str, width: int) -> str:
    """Return text that is at most so many columns wide: of longer text, the end."""
    if cell_len(text) <= width:
        return text
    backwards = set_cell_size(text[::-1], max(0, width - len(_CUT)))
    return _CUT + backwards[::-1].strip()


def _rate(events: int, seconds: float) -> str:
    """Return the number of events per second, with a decimal digit if it is small."""
    rate = events / seconds if seconds > 0 else 0.0
    return f"{rate:,.1f}" if 0 < rate < 9.95 else f"{rate:,.0f}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
