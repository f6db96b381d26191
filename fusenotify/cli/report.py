# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of ``fusenotify status`` about a mount; cli.status makes it, cli.tables prints it.

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
    """A mount with its daemon's socket and answer, or with what is wrong (trouble)."""

    mountpoint: str
    source: str
    socket: str | None
    status: Status | None
    trouble: str = ""


def client_fields(client: ClientStatus) -> dict[str, Any]:
    """Return a client for JSON."""
    fields: dict[str, Any] = msgspec.to_builtins(client)
    return {**fields, **plain({"command": client.command})}
