# SPDX-License-Identifier: GPL-2.0-or-later
"""Records that show whether they are whole: a sequence number, a length, a checksum, any bytes.

tests.fs.crash.kinds writes them to files and looks for them afterwards.
"""

from __future__ import annotations

import os
import random
import struct
import zlib
from typing import NamedTuple

# Magic, sequence number, length of what follows, CRC-32 of all but the magic.
_HEADER = struct.Struct("<4sIII")
_NUMBERS = struct.Struct("<II")
_MAGIC = b"\xf5rec"


class Found(NamedTuple):
    """A whole record: its sequence number, and where the next one would begin."""

    sequence: int
    end: int


def packed(sequence: int, longest: int) -> bytes:
    """Return a record of some length, of longest bytes at most."""
    content = os.urandom(random.randint(0, longest - _HEADER.size))
    return _HEADER.pack(_MAGIC, sequence, len(content), _checksum(sequence, content)) + content


def whole_record(data: bytes, offset: int = 0) -> Found | None:
    """Return the record that begins at offset; None if it is missing or incomplete."""
    if len(data) < offset + _HEADER.size:
        return None
    magic, sequence, length, checksum = _HEADER.unpack_from(data, offset)
    end = offset + _HEADER.size + length
    content = data[offset + _HEADER.size : end]
    if magic != _MAGIC or len(content) != length or checksum != _checksum(sequence, content):
        return None
    return Found(sequence, end)


def _checksum(sequence: int, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(_NUMBERS.pack(sequence, len(content))))
