# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify notify PATH...``: report changes of SOURCE that no kernel reports.

The daemon looks at the paths, sends events to its clients and makes the kernel forget the old
state.  docs/reference/behind.md says when that is needed.
"""

from __future__ import annotations

import argparse
import os
import sys

from fusenotify.client import Client
from fusenotify.client.locate import locate
from fusenotify.mounting.failure import describe

_WHAT = ("create", "delete", "modify", "attrib", "close_write")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path in a mount")
    parser.add_argument(
        "-e",
        "--event",
        dest="what",
        choices=_WHAT,
        action="append",
        default=[],
        help="what was done (default: the daemon finds out what has changed)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Report the changes to the daemons; return 1 if one of them refuses."""
    status = 0
    for path in arguments.paths:
        above, name = os.path.split(os.fsencode(path).rstrip(b"/"))
        if name in (b"", b".", b"..") or os.path.ismount(path):
            above, name = os.fsencode(path), b""
        try:
            place = locate(above or (b"." if name else b""))
            inner = place.path if place.mount is None else place.mount.inner_path(place.path)
            with Client(place.socket) as client:
                client.notify(os.path.join(inner, name), arguments.what or 0)
        except OSError as error:
            print(f"fusenotify: {path}: {describe(error)}", file=sys.stderr)
            status = 1
    return status
