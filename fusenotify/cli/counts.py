# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits as options of commands: their names, what they mean, how their numbers are read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from fusenotify.mounting.settings import MOST

# Those that can be set while a mount is there, and what each is a number of.
LIMITS = {
    "max_queued_events": "events that a device keeps",
    "max_user_watches": "watches that a user may have",
    "max_user_trees": "of these, how many may be tree watches",
    "max_user_instances": "devices that a user may have",
}
# Those that are a mount's for good.
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
    """Return the number that a limit's text is.

    Raises ArgumentTypeError.
    """
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 0 or more")
    if len(text) > len(str(MOST)) or int(text) > MOST:
        raise argparse.ArgumentTypeError(f"'{text}' is more than {MOST}, the most that can be said")
    return int(text)
