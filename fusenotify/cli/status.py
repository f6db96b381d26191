# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify status``: mounts, their clients, devices and queues.

Each daemon is asked through its socket; the table of mounts is the kernel's.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from fusenotify import mountinfo
from fusenotify.cli.report import Report
from fusenotify.client import Client
from fusenotify.mounting.failure import Failure, describe
from fusenotify.mounting.mountpoints import State, resolve, socket_of, state_of
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.messages import Status


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("mountpoint", metavar="MNT", nargs="?", help="one mount only (all)")
    which.add_argument("--socket", metavar="PATH", help="the daemon that listens there")
    parser.add_argument("--json", action="store_true", help="a list of mounts, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print what the daemons say; exit status 1 where one of them does not answer."""
    reports = _reports(arguments.mountpoint, arguments.socket)
    if arguments.json:
        json.dump([_plain(report) for report in reports], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from fusenotify.cli.tables import show

        show(reports)
    return 1 if any(report.status is None for report in reports) else 0


def _reports(mountpoint: str | None, socket: str | None) -> list[Report]:
    if socket is not None:
        status = _ask(socket)
        return [Report(os.fsdecode(status.mountpoint), os.fsdecode(status.source), status)]
    mounts = {  # the last one mounted on a directory is the one that shows
        os.fsdecode(mount.mountpoint): mount
        for mount in mountinfo.mounts()
        if mount.fstype == mountinfo.FSTYPE
    }
    if mountpoint is not None:
        path = resolve(mountpoint)
        if path not in mounts:
            raise Failure(f"{path}: no fusenotify mount is there")
        mounts = {path: mounts[path]}
    # At once, so that those that do not answer are waited for only once.
    with ThreadPoolExecutor(max_workers=max(1, len(mounts))) as threads:
        return list(threads.map(_report, mounts.values()))


def _report(mount: mountinfo.Mount) -> Report:
    mountpoint, source = os.fsdecode(mount.mountpoint), os.fsdecode(mount.source)
    state = state_of(mount)
    if state is State.DEAD:
        trouble = f"its daemon is dead; 'fusenotify unmount {mountpoint}' cleans it away"
        return Report(mountpoint, source, None, trouble)
    if state is State.SILENT:
        return Report(mountpoint, source, None, "its daemon does not answer; is it stopped?")
    try:
        return Report(mountpoint, source, _ask(socket_of(mount)))
    except OSError as error:
        return Report(mountpoint, source, None, describe(error))
    except Failure as failure:
        return Report(mountpoint, source, None, str(failure))


def _ask(socket: str) -> Status:
    try:
        with Client(socket) as client:
            return client.status()
    except ProtocolError as violation:
        # As of a daemon of another release, which is to cost only its own row.
        raise OSError(errno.EPROTO, str(violation), socket) from None


def _plain(report: Report) -> dict[str, Any]:
    """Return a report as JSON has it; bytes that are no text are escaped as Python does."""
    plain: dict[str, Any] = {"mountpoint": report.mountpoint, "source": report.source}
    if report.status is None:
        return plain | {"error": report.trouble}
    answered: dict[str, Any] = msgspec.to_builtins(report.status)
    del answered["type"], answered["id"]
    if report.status.statistics is not None:
        answered["statistics"]["directories"] = [
            {"path": os.fsdecode(directory.path), "events": directory.events}
            for directory in report.status.statistics.directories
        ]
    return answered | plain
