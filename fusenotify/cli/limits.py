# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify limits MNT [--max-user-watches N ...]``: show a mount's limits, or set some.

The daemon checks who may set them (server.limits); docs/reference/protocol.md describes
each limit.
"""

from __future__ import annotations

import argparse
import json
import sys

import msgspec

from fusenotify.cli.counts import LIMITS, QUOTAS, add_options
from fusenotify.client import Client
from fusenotify.client.locate import locate


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("mountpoint", metavar="MNT", help="the mount, or a path in it")
    add_options(parser, LIMITS, {})
    parser.add_argument("--json", action="store_true", help="print a JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Set the given limits; print all limits if none is given, or with --json."""
    wanted = {name: getattr(arguments, name) for name in LIMITS}
    sets = any(number is not None for number in wanted.values())
    with Client(locate(arguments.mountpoint).socket) as client:
        limits = client.set_limits(**wanted) if sets else client.limits()
    if arguments.json:
        json.dump(msgspec.to_builtins(limits), sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif not sets:
        for name, meaning in (LIMITS | QUOTAS).items():
            print(f"{name:<20}  {getattr(limits, name):>10}  {meaning}")
    return 0
