# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals of many mounts in one NATS JetStream stream: publish and subscribe, for asyncio.

Needs the extra ``nats``.  A publisher (nats.publisher) is a client of a mount as any other; a
subscriber (nats.subscriber) needs nothing of fusenotify but what is in the stream.
"""

from fusenotify.nats.connection import Refused
from fusenotify.nats.messages import Received
from fusenotify.nats.publisher import publish
from fusenotify.nats.subscriber import subscribe

__all__ = ["Received", "Refused", "publish", "subscribe"]
