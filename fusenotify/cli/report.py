# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify status`` found out about a mount; cli.status asks, cli.tables shows.

cli.top shows clients, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from fusenotify.plain import plain
from fusenotify.protocol.messages import Status
from fusenotify.protocol.status import ClientStatus


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one mount: its daemon's socket and answer, or what is wrong with it."""

    mountpoint: str
    source: str
    socket: str | None
    status: Status | None
    trouble: str = ""


def client_fields(client: ClientStatus) -> dict[str, Any]:
    """Return a client for JSON."""
    fields: dict[str, Any] = msgspec.to_builtins(client)
    return {**fields, **plain({"command": client.command})}
