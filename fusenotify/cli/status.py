# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify status``: mounts, their clients, devices and queues.

Each daemon is asked through its socket; the list of mounts comes from the kernel.  All are asked
at once, so a daemon that does not answer does not delay the reports of others.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as Late
from concurrent.futures import wait
from functools import partial
from typing import Any

import msgspec
from msgspec import UnsetType

from fusenotify import mountinfo
from fusenotify.cli.report import Report, client_fields
from fusenotify.cli.threads import in_thread
from fusenotify.client import Client
from fusenotify.mounting.failure import Failure, describe
from fusenotify.mounting.mountpoints import (
    ANSWER_SECONDS,
    State,
    resolve,
    socket_of,
    state_of,
)
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.messages import Status

# How many seconds a daemon may take to answer; a little more than it takes to find it stopped.
_MOST_SECONDS = ANSWER_SECONDS + 0.5
# For how many seconds all daemons are waited for before the first reports are shown.
_SOON_SECONDS = 0.3
_SILENT = "its daemon does not answer; is it stopped?"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("mountpoint", metavar="MNT", nargs="?", help="only this mount (all)")
    which.add_argument("--socket", metavar="PATH", help="the daemon that listens there")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list of mounts, for programs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the daemons' answers; return 1 if a daemon does not answer."""
    reports = _reports(arguments.mountpoint, arguments.socket, in_order=arguments.json)
    seen: list[Report] = []
    if arguments.json:
        seen += reports
        json.dump([_plain(report) for report in seen], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from fusenotify.cli.tables import show

        show(_noted(reports, seen))
    return 1 if any(report.status is None for report in seen) else 0


def _noted(reports: Iterable[Report], seen: list[Report]) -> Iterator[Report]:
    """Yield reports as they arrive, and append them to seen."""
    for report in reports:
        seen.append(report)
        yield report


def _reports(mountpoint: str | None, socket: str | None, *, in_order: bool) -> Iterator[Report]:
    """Yield the reports of the daemons, in the order of mounts; unless in_order, late ones last."""
    if socket is not None:
        status = _ask(socket)
        yield Report(os.fsdecode(status.mountpoint), os.fsdecode(status.source), socket, status)
        return
    mounts = {  # the last mount on a directory is the visible one
        os.fsdecode(mount.mountpoint): mount
        for mount in mountinfo.mounts()
        if mount.fstype == mountinfo.FSTYPE
    }
    if mountpoint is not None:
        path = resolve(mountpoint)
        if path not in mounts:
            raise Failure(
                f"{path}: no fusenotify mount is there; 'fusenotify status' lists the mounts"
            )
        mounts = {path: mounts[path]}
    asked = {in_thread(partial(_report, mount)): mount for mount in mounts.values()}
    deadline = time.monotonic() + _MOST_SECONDS
    late = asked
    if not in_order:
        soon, _ = wait(asked, timeout=_SOON_SECONDS)
        yield from (future.result() for future in asked if future in soon)
        late = {future: mount for future, mount in asked.items() if future not in soon}
    for future, mount in late.items():
        try:
            yield future.result(max(0.0, deadline - time.monotonic()))
        except Late:
            yield _without_answer(mount, _SILENT)


def _report(mount: mountinfo.Mount) -> Report:
    mountpoint, source = os.fsdecode(mount.mountpoint), os.fsdecode(mount.source)
    state = state_of(mount)
    if state is State.DEAD:
        trouble = f"its daemon is dead; 'fusenotify unmount {mountpoint}' removes the mount"
        return _without_answer(mount, trouble)
    if state is State.SILENT:
        return _without_answer(mount, _SILENT)
    socket = None
    try:
        socket = socket_of(mount)
        return Report(mountpoint, source, socket, _ask(socket))
    except OSError as error:
        refusal = mount.refusal(os.geteuid()) if error.errno == errno.EACCES else None
        return _without_answer(mount, refusal or describe(error), socket)
    except Failure as failure:
        return _without_answer(mount, str(failure), socket)


def _without_answer(mount: mountinfo.Mount, trouble: str, socket: str | None = None) -> Report:
    mountpoint, source = os.fsdecode(mount.mountpoint), os.fsdecode(mount.source)
    return Report(mountpoint, source, socket, None, trouble)


def _ask(socket: str) -> Status:
    try:
        with Client(socket) as client:
            return client.status()
    except ProtocolError as violation:
        # A daemon of another release must not spoil the reports of others.
        raise OSError(errno.EPROTO, str(violation), socket) from None


def _plain(report: Report) -> dict[str, Any]:
    """Return a report for JSON; bytes that are not text become surrogate escapes."""
    plain: dict[str, Any] = {
        "mountpoint": report.mountpoint,
        "source": report.source,
        "socket": report.socket,
    }
    if report.status is None:
        return plain | {"error": report.trouble}
    answered: dict[str, Any] = msgspec.to_builtins(report.status)
    del answered["type"], answered["id"]
    answered["clients"] = [*map(client_fields, report.status.clients)]
    if report.status.statistics is not None:
        answered["statistics"]["directories"] = [
            {"path": os.fsdecode(directory.path), "events": directory.events}
            for directory in report.status.statistics.directories
        ]
    if not isinstance(report.status.journal, UnsetType):
        answered["journal"]["path"] = os.fsdecode(report.status.journal.path)
    return answered | plain
