# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be done, in words for the user; the command line prints them."""

from __future__ import annotations

import os


class Failure(Exception):
    """What was asked cannot be done; the message is for the user."""


def describe(error: OSError) -> str:
    """Return an OSError as a user reads it: the path, then what is wrong."""
    text = error.strerror or str(error)
    if error.filename is None:
        return text
    return f"{os.fsdecode(error.filename)}: {text}"
