# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables that ``fusenotify status`` shows to people."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fusenotify.protocol.messages import Status

if TYPE_CHECKING:
    from fusenotify.cli.status import Report

_WIDE = 1000


def show(reports: Iterable[Report]) -> None:
    """Print every mount with its clients' devices and its users."""
    # What is piped is not for a screen of some width.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
    shown = False
    for report in reports:
        shown = True
        console.print(f"[bold]{_path(report.mountpoint)}[/bold] shows {_path(report.source)}")
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
        f"{limits.max_user_watches} watches and {limits.max_user_instances} devices per user"
    )
    if any(client.devices for client in status.clients):
        console.print(_devices(status))
    else:
        console.print("  no devices")
    if status.users:
        console.print(_users(status))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 1))


def _devices(status: Status) -> Table:
    table = _table("devices")
    for heading in ("pid", "uid", "device", "semantics", "watches", "queued", "overflows"):
        table.add_column(heading, justify="left" if heading == "semantics" else "right")
    for heading in ("merged", "lost"):
        table.add_column(heading, justify="right")
    for client in status.clients:
        for device in client.devices:
            table.add_row(
                str(client.pid),
                str(client.uid),
                str(device.device),
                device.semantics,
                str(device.watches),
                f"{device.queued}/{device.max_queued_events}",
                str(device.overflows),
                str(device.merged),
                str(device.lost),
            )
    return table


def _users(status: Status) -> Table:
    table = _table("users")
    for heading in ("uid", "watches", "devices"):
        table.add_column(heading, justify="right")
    for user in status.users:
        table.add_row(str(user.uid), str(user.watches), str(user.devices))
    return table


def _path(text: str) -> str:
    """Return text that may hold a path that is no text, for the terminal."""
    return escape(text.encode(errors="surrogateescape").decode(errors="backslashreplace"))
