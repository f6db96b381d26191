# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify cursor MNT``: print a cursor, which is the present place in a mount's journal."""

from __future__ import annotations

import argparse

from fusenotify.client import Client
from fusenotify.client.locate import locate


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("mountpoint", metavar="MNT", help="the mount, or a path in it")


def run(arguments: argparse.Namespace) -> int:
    """Print a cursor."""
    with Client(locate(arguments.mountpoint).socket) as client:
        print(client.cursor())
    return 0
