# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits as options of commands: their names, their meanings, the parsing of numbers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from fusenotify.mounting.settings import MOST

# The limits that can be changed on a mount, and what each number counts.
LIMITS = {
    "max_queued_events": "events that a device keeps",
    "max_user_watches": "watches that a user may have",
    "max_user_trees": "tree watches that a user may have (they also count as watches)",
    "max_user_instances": "devices that a user may have",
}
# The limits that cannot be changed on a mount.
QUOTAS = {
    "max_user_connections": "connections that a user other than root may have",
    "max_waiting_requests": "requests of a connection that may wait at a time",
}


def add_options(
    parser: argparse.ArgumentParser,
    meanings: Mapping[str, str],
    defaults: Mapping[str, int | None],
) -> None:
    """Declare an option for each limit."""
    for limit, meaning in meanings.items():
        default = defaults.get(limit)
        parser.add_argument(
            "--" + limit.replace("_", "-"),
            metavar="N",
            type=count,
            default=default,
            help=meaning if default is None else f"{meaning} (%(default)s)",
        )


def count(text: str) -> int:
    """Return the number in the text of a limit.

    Raises ArgumentTypeError.
    """
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 0 or more")
    if len(text) > len(str(MOST)) or int(text) > MOST:
        raise argparse.ArgumentTypeError(f"'{text}' is more than {MOST}, the largest number")
    return int(text)
