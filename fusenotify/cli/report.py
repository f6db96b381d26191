# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify status`` found out about a mount; cli.status asks, cli.tables shows."""

from __future__ import annotations

from dataclasses import dataclass

from fusenotify.protocol.messages import Status


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one mount: its daemon's answer, or what is wrong with it."""

    mountpoint: str
    source: str
    status: Status | None
    trouble: str = ""
