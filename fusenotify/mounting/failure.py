# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures with a message for the user, which the command line prints."""

from __future__ import annotations

import os


class Failure(Exception):
    """The request of a user cannot be carried out; the message is for the user."""


def describe(error: OSError) -> str:
    """Return an OSError as a message for the user: the path, then the error."""
    text = error.strerror or str(error)
    if error.filename is None:
        return text
    return f"{os.fsdecode(error.filename)}: {text}"
