# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in JSON, which has text only, while a name may be any bytes.

Every layer imports this module; it imports nothing of ours.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for JSON.

    Of bytes that are not UTF-8, what is not is U+FFFD, and beside them, under a name
    with _base64 behind, is what they are.
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

    Raises ValueError.
    """
    encoded = values.get(f"{key}_base64")
    if encoded is not None:
        return base64.b64decode(encoded, validate=True)
    text = values.get(key)
    return None if text is None else str(text).encode()
