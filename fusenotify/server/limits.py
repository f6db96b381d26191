# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits of a mount, which everybody sees, and which root and the daemon's user set.

server.session answers requests with it.  engine.limits explains each limit; the
engine looks them up at each request, so a new limit holds at once.  Linux: root
writes /proc/sys/fs/inotify.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import fields

from fusenotify.admission import Quotas
from fusenotify.credentials import Credentials
from fusenotify.engine.limits import MOST, Limits
from fusenotify.protocol.messages import MAX_ANSWER_FRAME, MAX_REQUEST_FRAME, LimitsOf
from fusenotify.protocol.status import LimitsStatus
from fusenotify.server.peer import is_privileged

log = logging.getLogger(__name__)


def limits_status(limits: Limits, quotas: Quotas) -> LimitsStatus:
    """Return all limits in the form in which clients get them."""
    return LimitsStatus(
        max_queued_events=limits.max_queued_events,
        max_user_instances=limits.max_user_instances,
        max_user_watches=limits.max_user_watches,
        max_user_trees=limits.max_user_trees,
        max_user_connections=quotas.max_user_connections,
        max_waiting_requests=quotas.max_waiting_requests,
        max_request_bytes=MAX_REQUEST_FRAME,
        max_answer_bytes=MAX_ANSWER_FRAME,
    )


def set_limits(limits: Limits, request: LimitsOf, who: Credentials) -> None:
    """Set the limits in a request, either all of them or none.

    Raises OSError: EPERM if the user may not, EINVAL for a number out of range.
    """
    wanted = {
        limit.name: number
        for limit in fields(limits)
        if (number := getattr(request, limit.name)) is not None
    }
    if wanted and not is_privileged(who):
        raise OSError(errno.EPERM, "only root and the daemon's user may set the mount's limits")
    for name, number in wanted.items():
        if not 0 <= number <= MOST:
            raise OSError(errno.EINVAL, f"{name} is 0 to {MOST}, not {number}")
    for name, number in wanted.items():
        log.info("%s is %d from now on", name, number)
        setattr(limits, name, number)
