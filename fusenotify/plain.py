# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in JSON, which has only text, while a name may be any bytes.

Every layer imports this module; it imports nothing of ours.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for JSON.

    Bytes are decoded as UTF-8, with U+FFFD for what is not UTF-8.  If that changes them, the
    original bytes are also there, in base64, under the key with _base64 appended.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(value, bytes):
            found[key] = value
            continue
        found[key] = value.decode(errors="replace")
        if found[key].encode() != value:
            found[f"{key}_base64"] = base64.b64encode(value).decode()
    return found


def name_of(values: Mapping[str, Any], key: str) -> bytes | None:
    """Return the bytes that plain() put under a key, or None if there are none.

    Raises ValueError for wrong base64.
    """
    encoded = values.get(f"{key}_base64")
    if encoded is not None:
        return base64.b64decode(encoded, validate=True)
    text = values.get(key)
    return None if text is None else str(text).encode()
