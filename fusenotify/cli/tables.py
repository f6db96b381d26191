# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables that ``fusenotify status`` shows to people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import timedelta

from msgspec import UnsetType
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fusenotify.bits import names
from fusenotify.cli.printable import printable
from fusenotify.cli.report import Report
from fusenotify.protocol.faults import ANY_EVENT, Delay, Lose, Refuse
from fusenotify.protocol.messages import (
    Status,
)
from fusenotify.protocol.status import (
    BehindStatus,
    FaultStatus,
    JournalStatus,
    Statistics,
)

_WIDE = 1000
# How many directories and users are shown; --json has more.
_BUSIEST = 10


def show(reports: Iterable[Report]) -> None:
    """Print every mount with its clients' devices and its users."""
    # Piped output is not cut to the width of a screen.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
    shown = False
    for report in reports:
        shown = True
        console.print(f"[bold]{_path(report.mountpoint)}[/bold] shows {_path(report.source)}")
        if report.socket is not None:
            console.print(f"  socket {_path(report.socket)}")
        if report.status is None:
            console.print(f"  [red]{_path(report.trouble)}[/red]")
        else:
            _show_status(console, report.status)
    if not shown:
        console.print("nothing is mounted")


def _show_status(console: Console, status: Status) -> None:
    limits = status.limits
    console.print(
        f"  {escape(status.server)}, pid {status.pid}, {status.semantics}, "
        f"up {timedelta(seconds=round(status.uptime))}\n"
        f"  limits: {limits.max_queued_events} queued events, "
        f"{limits.max_user_watches} watches, {limits.max_user_trees} tree watches, "
        f"{limits.max_user_instances} devices and "
        f"{limits.max_user_connections} connections per user"
    )
    if not isinstance(status.journal, UnsetType):
        console.print(f"  {_journal(status.journal)}")
    if status.behind is not None:
        console.print(f"  behind the mount: {escape(_behind(status.behind))}")
    if not isinstance(status.faults, UnsetType):
        lasting = "; ".join(map(_fault, status.faults)) or "none set"
        console.print(f"  [yellow]faults (--faults)[/yellow]: {escape(lasting)}")
    if any(client.devices for client in status.clients):
        console.print(_devices(status))
    else:
        console.print("  no devices")
    if status.users:
        console.print(_users(status))
    if status.statistics is not None:
        _show_statistics(console, status.statistics)


def _behind(heard: BehindStatus) -> str:
    """Return what is heard of changes to SOURCE itself."""
    if heard.hears == "off":
        return f"nothing is heard: {heard.why_not}"
    what = (
        "all is heard" if heard.hears == "all" else f"what is watched is heard, {heard.marks} marks"
    )
    trouble = f" ({heard.why_not})" if heard.why_not else ""
    return (
        f"{what}{trouble}; {heard.records} records, {heard.echoes} of them the mount's own, "
        f"{heard.told} told; lost {heard.overflows} times; {heard.mended} names mended"
    )


def _journal(journal: JournalStatus) -> str:
    """Return the line about a mount's journal."""
    kept = journal.last - journal.oldest + 1
    text = f"journal {_path(os.fsdecode(journal.path))}: {kept} entries in {journal.size >> 10} KiB"
    if journal.lost:
        text += f", [red]{journal.lost} changes lost[/red]"
    if journal.failure is not None:
        text += f", [red]cannot be written: {escape(journal.failure)}[/red]"
    return text


def _fault(lasting: FaultStatus) -> str:
    """Return a lasting fault in the form of the arguments of ``fusenotify fault``."""
    match lasting.fault:
        case Lose(count, mask):
            text = f"lose {count}" if mask == ANY_EVENT else f"lose {count} --mask {_names(mask)}"
        case Refuse(count, error):
            text = f"refuse {count} {error}"
        case Delay(seconds):
            text = f"delay {seconds:g}"
    return text if lasting.device is None else f"{text} --device {lasting.device}"


def _names(mask: int) -> str:
    return ",".join(names(mask))


def _show_statistics(console: Console, statistics: Statistics) -> None:
    """Print the counts; of directories and users only the busiest ones."""
    if statistics.events:
        counted = sorted(statistics.events.items(), key=lambda counts: counts[1], reverse=True)
        console.print("  events: " + ", ".join(f"{count} {name}" for name, count in counted))
    else:
        console.print("  no events where somebody watches")
    console.print(
        f"  all queues: {statistics.merged} merged, {statistics.lost} lost, "
        f"{statistics.overflows} overflows"
    )
    if statistics.directories:
        busiest = [(_path(each.path), each.events) for each in statistics.directories]
        console.print(_activity("events in", "directory", busiest[:_BUSIEST]))
    if statistics.users:
        causers = [(str(each.uid), each.events) for each in statistics.users]
        console.print(_activity("events caused by", "uid", causers[:_BUSIEST]))


def _activity(title: str, heading: str, counts: Iterable[tuple[str, int]]) -> Table:
    table = _table(title)
    table.add_column("events", justify="right")
    table.add_column(heading)
    for name, events in counts:
        table.add_row(str(events), name)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 1))


def _devices(status: Status) -> Table:
    table = _table("devices")
    for heading in ("pid", "command", "uid", "device", "semantics", "watches", "trees"):
        left = heading in ("command", "semantics")
        table.add_column(heading, justify="left" if left else "right")
    for heading in ("queued", "overflows", "merged", "lost"):
        table.add_column(heading, justify="right")
    for client in status.clients:
        for device in client.devices:
            table.add_row(
                str(client.pid),
                "-" if client.command is None else _path(client.command),
                f"{client.uid} (another user namespace)" if client.foreign else str(client.uid),
                str(device.device),
                device.semantics,
                str(device.watches),
                str(device.trees),
                f"{device.queued}/{device.max_queued_events}",
                str(device.overflows),
                str(device.merged),
                str(device.lost),
            )
    return table


def _users(status: Status) -> Table:
    table = _table("users")
    for heading in ("uid", "watches", "trees", "devices"):
        table.add_column(heading, justify="right")
    for user in status.users:
        table.add_row(*map(str, (user.uid, user.watches, user.trees, user.devices)))
    return table


def _path(text: str | bytes) -> str:
    """Return text that may contain any path, as markup for rich."""
    return escape(printable(text))
