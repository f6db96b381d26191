# SPDX-License-Identifier: GPL-2.0-or-later
"""A step's fields as code, for who makes a scenario of a program."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fusenotify import bits
from tests.differential.operations import UTIME_NOW, UTIME_OMIT

_OPEN_FLAGS = (
    "O_CREAT",
    "O_EXCL",
    "O_TRUNC",
    "O_APPEND",
    "O_DIRECTORY",
    "O_NOFOLLOW",
    "O_NONBLOCK",
    "O_NOATIME",
    "O_SYNC",
)
_TIMES = {UTIME_NOW: "UTIME_NOW", UTIME_OMIT: "UTIME_OMIT"}


def code(name: str, value: Any) -> str:
    """Return a field's value as code."""
    if name == "by":
        return ("ROOT", "OTHER")[value]
    if name == "mask":
        return _or(f"IN_{bit}" if not bit.startswith("0x") else bit for bit in bits.names(value))
    if name == "mode":
        return f"0o{value:o}"
    if name in ("atime", "mtime"):
        return _TIMES.get(value, repr(value))
    if name == "flags":
        access = ("O_RDONLY", "O_WRONLY", "O_RDWR")[value & os.O_ACCMODE]
        return _or([access, *(flag for flag in _OPEN_FLAGS if _has(value, flag))])
    return repr(value)


def _has(value: int, flag: str) -> bool:
    bits: int = getattr(os, flag)
    return value & bits == bits


def _or(words: Iterable[str]) -> str:
    return " | ".join(words) or "0"
