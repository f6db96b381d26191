# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults that testers may cause on a mount made with --faults, one struct each.

messages.CauseFault carries one; server.faults checks and carries out;
docs/reference/protocol.md says what each does.  On the wire each is a map whose ``kind``
is the tag.  Status lists those that last, with what is left of them.
"""

from __future__ import annotations

import msgspec

ANY_EVENT = 0xFFFFFFFF


class _Fault(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True):
    pass


class Overflow(_Fault, tag="overflow"):
    """The queue counts as full as it stands: IN_Q_OVERFLOW now, losses until that was read."""


class Inject(_Fault, tag="inject"):
    """Queue an event that did not happen, by the rules of merging and overflow.

    name is None or of 1 to 255 bytes.
    """

    wd: int
    mask: int
    cookie: int = 0
    name: bytes | None = None


class Lose(_Fault, tag="lose"):
    """The next count events that have a bit of mask are not queued, and nothing tells so."""

    count: int
    mask: int = ANY_EVENT


class Delay(_Fault, tag="delay"):
    """Events are not to be read before so many seconds after they were queued."""

    seconds: float


class Refuse(_Fault, tag="refuse"):
    """The next count add_watch fail with an error: ENOSPC or ENOMEM."""

    count: int
    error: str = "ENOSPC"


class Disconnect(_Fault, tag="disconnect"):
    """The connection of the device ends at once."""


class Clear(_Fault, tag="clear"):
    """All that lasts ends; what was delayed may be read."""


LastingFault = Lose | Delay | Refuse
AnyFault = Overflow | Inject | Lose | Delay | Refuse | Disconnect | Clear
