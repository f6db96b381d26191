# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify clean [MNT...]``: take away the mounts whose daemons are gone.

Such a mount says ENOTCONN to everybody and stays until somebody takes it away.  Those that live
are left alone, and so are those whose daemon is there and does not answer, as one that was
stopped.  Root cleans up for all, others what is theirs.
"""

from __future__ import annotations

import argparse
import os
import sys

from fusenotify import mountinfo
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.mountpoints import (
    State,
    id_of,
    remove_dead_socket,
    resolve,
    states_of,
    take_away,
)
from fusenotify.mounting.settings import default_sockets


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "mountpoints",
        metavar="MNT",
        nargs="*",
        help="look at these only; that nothing is mounted there is no failure",
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="say what would be taken away, and leave it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Take dead mounts away, a line for each; 1 where one could not be."""
    wanted = {os.fsencode(resolve(path)) for path in arguments.mountpoints}
    mounts = [
        mount
        for mount in mountinfo.mounts()
        if mount.fstype == mountinfo.FSTYPE
        and (not wanted or mount.mountpoint in wanted)
        and os.geteuid() in (0, mount.user)
    ]
    # Which they are, before they are asked: another one may come in a dead one's place.
    known = [(mount, which) for mount in mounts if (which := _uncovered(mount)) is not None]
    states = states_of([mount for mount, _ in known])
    status = 0
    for (mount, which), state in zip(known, states, strict=True):
        path = os.fsdecode(mount.mountpoint)
        if state is not State.DEAD:
            continue
        if arguments.dry_run:
            print(f"{path}: its daemon is gone")
            continue
        try:
            take_away(which, lazy=True)
        except Failure as failure:
            print(f"fusenotify: {failure}", file=sys.stderr)
            status = 1
            continue
        for socket in default_sockets(path):
            remove_dead_socket(socket)
        print(f"{path}: taken away; its daemon is gone")
    return status


def _uncovered(mount: mountinfo.Mount) -> mountinfo.MountId | None:
    """Return which mount it is, where it can be reached."""
    try:
        return id_of(mount)
    except Failure:
        return None
