# SPDX-License-Identifier: GPL-2.0-or-later
"""A log of all requests of clients, for ``fusenotify mount --debug``.

server.service uses this class of sessions only if the log is wanted, so that requests cost
nothing more otherwise.
"""

from __future__ import annotations

import logging

import trio

from fusenotify.protocol.messages import AnyRequest
from fusenotify.server.peer import named
from fusenotify.server.session import Session

log = logging.getLogger(__name__)


class LoggedSession(Session):
    """A session that logs the requests of its client, and the refusals."""

    async def _answer(self, request: AnyRequest, nursery: trio.Nursery) -> None:
        log.debug("%s asks: %.500r", named(self.who), request)
        try:
            await super()._answer(request, nursery)
        except OSError as refusal:
            log.debug("%s is refused: %s", named(self.who), refusal.strerror)
            raise


def session_class() -> type[Session]:
    """Return the class of sessions: this one if requests shall be logged."""
    return LoggedSession if log.isEnabledFor(logging.DEBUG) else Session
