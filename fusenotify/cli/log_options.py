# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``fusenotify mount`` for what its daemon logs, and where.

cli.mount_settings declares them with the others.
"""

from __future__ import annotations

import argparse


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="log the mount's beginning and end, and clients",
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="log each request of programs and clients, too (implies -v)",
    )
    parser.add_argument(
        "--log-file",
        metavar="FILE",
        help="log to the end of FILE (stderr; in the background syslog)",
    )


def level_of(arguments: argparse.Namespace) -> str:
    """Return the name of the lowest level of logging that is written."""
    if arguments.debug:
        return "DEBUG"
    return "INFO" if arguments.verbose else "WARNING"
