# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages: their subjects, and an event as JSON.

A subject is PREFIX.MACHINE.MOUNT.tree followed by the names of the event's directory.  So
``fusenotify.web1.srv-www.tree.docs.>`` matches all events below /srv/www/docs on web1.

Invariants
    A token has only letters, digits and "_"; the mount's token also has "-" for slashes.
        Other bytes become a percent sign and two hexadecimal digits.
    A subject has at most MOST_TOKENS names of directories, in at most MOST_BYTES.  The
        message itself has the whole path.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from fusenotify.bits import names
from fusenotify.plain import name_of, plain
from fusenotify.protocol.past import PastEvent

MOST_TOKENS = 16
MOST_BYTES = 1000
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class Received(NamedTuple):
    """An event of a mount on some machine.

    number is the number of the message in the stream; machine is the name of the host, and
    mount is the mount point there.
    """

    number: int
    machine: str
    mount: bytes
    event: PastEvent


def token(name: bytes) -> str:
    """Return a name as a token of a subject."""
    return "".join([chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name])


def key_of(name: str) -> str:
    """Return a name as a key of a key-value bucket."""
    return token(name.encode()).replace("%", "=")


def base_of(prefix: str, machine: str, mountpoint: bytes) -> str:
    """Return the beginning of the subjects of a mount: PREFIX.MACHINE.MOUNT.tree."""
    mount = "-".join(map(token, mountpoint.strip(b"/").split(b"/"))) or "-"
    return f"{prefix}.{token(machine.encode())}.{mount}.tree"


def subject_of(base: str, path: bytes) -> str:
    """Return the subject of an event about a path from the mount's root."""
    subject = base
    for name in path.split(b"/")[:-1][:MOST_TOKENS]:
        longer = f"{subject}.{token(name)}"
        if len(longer) - len(base) > MOST_BYTES:
            break
        subject = longer
    return subject


def encoded(machine: str, mountpoint: bytes, event: PastEvent) -> bytes:
    """Return an event as a message: as ``fusenotify since --json`` prints it, with its place."""
    values: dict[str, Any] = {"machine": machine, "mount": mountpoint, "events": names(event.mask)}
    values |= msgspec.structs.asdict(event)
    known = {k: v for k, v in values.items() if v is not None and v is not False}
    return json.dumps(plain(known)).encode()


def decoded(number: int, data: bytes) -> Received:
    """Return the event in a message with a number.

    Raises ValueError if the message was not made by encoded().
    """
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError("a message is a JSON object")
        fields = {name: values[name] for name in PastEvent.__struct_fields__ if name in values}
        for name in ("path", "old_path", "command"):
            if name in fields:
                fields[name] = name_of(values, name)
        event = msgspec.convert(fields, PastEvent)
        machine = values["machine"]
        for text in (machine, event.cursor, event.reason or ""):
            text.encode()  # half of a surrogate pair cannot be printed
        if not all(0 <= number < 1 << 63 for number in (event.time, event.since or 0, event.mask)):
            raise ValueError("a number is too large")
        return Received(number, machine, name_of(values, "mount") or b"", event)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an event of fusenotify: {error}") from None
