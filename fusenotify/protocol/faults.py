# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults that testers may cause on a mount made with --faults, one struct each.

messages.CauseFault carries one; server.faults checks it and carries it out;
docs/reference/protocol.md describes each.  In a message each is a map, and the value of
``kind`` is its tag.  Status lists the faults that last, with their remaining counts.
"""

from __future__ import annotations

import msgspec

ANY_EVENT = 0xFFFFFFFF


class _Fault(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True):
    pass


class Overflow(_Fault, tag="overflow"):
    """The queue counts as full: IN_Q_OVERFLOW is queued, and events are lost until it is read."""


class Inject(_Fault, tag="inject"):
    """Queue an event that did not happen, by the usual rules of merging and overflow.

    name is None, a name of 1 to 255 bytes, or a path of 1 to 4095 bytes.
    """

    wd: int
    mask: int
    cookie: int = 0
    name: bytes | None = None


class Lose(_Fault, tag="lose"):
    """The next count events that have a bit of mask are not queued; nothing reports the loss."""

    count: int
    mask: int = ANY_EVENT


class Delay(_Fault, tag="delay"):
    """Events cannot be read until so many seconds after they were queued."""

    seconds: float


class Refuse(_Fault, tag="refuse"):
    """The next count add_watch requests fail with an error: ENOSPC or ENOMEM."""

    count: int
    error: str = "ENOSPC"


class Disconnect(_Fault, tag="disconnect"):
    """The connection of the device ends at once."""


class Clear(_Fault, tag="clear"):
    """All lasting faults end; delayed events can be read."""


LastingFault = Lose | Delay | Refuse
AnyFault = Overflow | Inject | Lose | Delay | Refuse | Disconnect | Clear
