# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify clean [MNT...]``: unmount the mounts whose daemons are gone.

Every use of such a mount fails with ENOTCONN, and it stays until somebody unmounts it.  Living
mounts are left alone, and so are mounts whose daemon exists but does not answer, for example
because it was stopped.  Root cleans up for all users, others clean up their own mounts.
"""

from __future__ import annotations

import argparse
import os
import sys

from fusenotify import mountinfo
from fusenotify.cli.printable import printable
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import (
    State,
    ask,
    remove_dead_socket,
    resolve,
    take_away,
)
from fusenotify.mounting.settings import default_sockets


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "mountpoints",
        metavar="MNT",
        nargs="*",
        help="look only at these; it is no error if nothing is mounted there",
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="only print what would be unmounted"
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount dead mounts, with a line for each; return 1 if one could not be unmounted."""
    wanted = {os.fsencode(resolve(path)) for path in arguments.mountpoints}
    mounts = [
        mount
        for mount in mountinfo.mounts()
        if mount.fstype == mountinfo.FSTYPE
        and (not wanted or mount.mountpoint in wanted)
        and os.geteuid() in (0, mount.user)
    ]
    status = 0
    for mount, (state, which) in zip(mounts, ask(mounts), strict=True):
        path = os.fsdecode(mount.mountpoint)
        if state is not State.DEAD or which is None:
            continue
        if arguments.dry_run:
            print(f"{printable(path)}: its daemon is gone")
            continue
        try:
            take_away(which, lazy=True)
        except Failure as failure:
            print(f"fusenotify: {printable(str(failure))}", file=sys.stderr)
            status = 1
            continue
        for socket in default_sockets(path):
            remove_dead_socket(socket)
        print(f"{printable(path)}: unmounted; its daemon is gone")
    return status
