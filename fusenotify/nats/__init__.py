# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals of many mounts in one NATS JetStream stream: publish and subscribe, for asyncio.

Needs the extra ``nats``.  A publisher (nats.publisher) is an ordinary client of a mount.  A
subscriber (nats.subscriber) needs no mount, only the stream.
"""

from fusenotify.nats.connection import Refused
from fusenotify.nats.messages import Received
from fusenotify.nats.publisher import publish
from fusenotify.nats.subscriber import subscribe

__all__ = ["Received", "Refused", "publish", "subscribe"]
