# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of a mount that a test made, each by a method; docs/reference/protocol.md explains them.

testing.mounts hands it out; fusenotify.client carries each to the daemon.  What
it needs it imports when a fault is caused.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusenotify.masks import AnyMask, plain

if TYPE_CHECKING:
    from fusenotify.client import Client
    from fusenotify.protocol.faults import AnyFault
    from fusenotify.testing.device import MountDevice


class Faults:
    """The levers of a mount.

    Each is for one device, or without one for all of the mount; a program's
    device has the number that ``fusenotify status`` shows.  A mask may be
    written as ``"CREATE|DELETE"``.

    All raise OSError: EPERM where the mount was not made with faults, EBADF
    where there is no such device, EINVAL.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def overflow(self, device: MountDevice | int | None = None) -> None:
        """Queue Q_OVERFLOW, and lose events until it was read."""
        from fusenotify.protocol.faults import Overflow

        self._cause(Overflow(), device)

    def inject(
        self,
        wd: int,
        mask: AnyMask,
        name: str | bytes | None = None,
        *,
        cookie: int = 0,
        device: MountDevice | int | None = None,
    ) -> None:
        """Queue an event that did not happen."""
        from fusenotify.protocol.faults import Inject

        encoded = None if name is None else os.fsencode(name)
        self._cause(Inject(wd, plain(mask), cookie, encoded), device)

    def lose(
        self,
        count: int = 1,
        mask: AnyMask | None = None,
        *,
        device: MountDevice | int | None = None,
    ) -> None:
        """Lose the next events, those of the mask if there is one, and tell nobody."""
        from fusenotify.protocol.faults import ANY_EVENT, Lose

        self._cause(Lose(count, ANY_EVENT if mask is None else plain(mask)), device)

    def delay(self, seconds: float, *, device: MountDevice | int | None = None) -> None:
        """Hold events back for so long, 3600 s at most; 0 ends it."""
        from fusenotify.protocol.faults import Delay

        self._cause(Delay(seconds), device)

    def refuse(
        self,
        count: int = 1,
        error: str = "ENOSPC",
        *,
        device: MountDevice | int | None = None,
    ) -> None:
        """Let the next add_watch fail, with ENOSPC or ENOMEM."""
        from fusenotify.protocol.faults import Refuse

        self._cause(Refuse(count, error), device)

    def disconnect(self, device: MountDevice | int | None = None) -> None:
        """Close the connection that has the device, or all that have one."""
        from fusenotify.protocol.faults import Disconnect

        self._cause(Disconnect(), device)

    def clear(self, device: MountDevice | int | None = None) -> None:
        """End all that lasts."""
        from fusenotify.protocol.faults import Clear

        self._cause(Clear(), device)

    def _cause(self, fault: AnyFault, device: MountDevice | int | None) -> None:
        number = device if device is None or isinstance(device, int) else device.raw.number
        self._client.fault(fault, number)
