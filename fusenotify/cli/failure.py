# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command fails: one line on stderr and exit status 1."""

from __future__ import annotations

import os


class Failure(Exception):
    """The command cannot do what was asked; the message is for the user."""


def describe(error: OSError) -> str:
    """Return an OSError as a user reads it: the path, then what is wrong."""
    text = error.strerror or str(error)
    if error.filename is None:
        return text
    return f"{os.fsdecode(error.filename)}: {text}"
