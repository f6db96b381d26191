# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults on the mount of a test, a method for each; docs/reference/protocol.md explains them.

testing.mounts makes a Faults; fusenotify.client sends each fault to the daemon.
Modules that it needs are imported when a fault is caused.
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
    """The faults that a test can cause on a mount.

    Each is for one device, or without a device for all devices of the mount.  A
    device may be a number, as ``fusenotify status`` shows it for the device of
    another program.  A mask may be written as ``"CREATE|DELETE"``.

    All methods raise OSError: EPERM if the mount was not made with faults, EBADF
    if there is no such device, EINVAL.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def overflow(self, device: MountDevice | int | None = None) -> None:
        """Queue Q_OVERFLOW, and lose events until it is read."""
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
        """Queue an event that did not happen.  name is at most 255 bytes, or a path of 4095."""
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
        """Silently lose the next count events, or the next count events that have a bit of mask."""
        from fusenotify.protocol.faults import ANY_EVENT, Lose

        self._cause(Lose(count, ANY_EVENT if mask is None else plain(mask)), device)

    def delay(self, seconds: float, *, device: MountDevice | int | None = None) -> None:
        """Hold events back for so many seconds, at most 3600; 0 ends it."""
        from fusenotify.protocol.faults import Delay

        self._cause(Delay(seconds), device)

    def refuse(
        self,
        count: int = 1,
        error: str = "ENOSPC",
        *,
        device: MountDevice | int | None = None,
    ) -> None:
        """Let the next count add_watch requests fail with error: ENOSPC or ENOMEM."""
        from fusenotify.protocol.faults import Refuse

        self._cause(Refuse(count, error), device)

    def disconnect(self, device: MountDevice | int | None = None) -> None:
        """Close the connection that has the device, or all connections that have devices."""
        from fusenotify.protocol.faults import Disconnect

        self._cause(Disconnect(), device)

    def clear(self, device: MountDevice | int | None = None) -> None:
        """End all lasting faults, and release delayed events."""
        from fusenotify.protocol.faults import Clear

        self._cause(Clear(), device)

    def _cause(self, fault: AnyFault, device: MountDevice | int | None) -> None:
        number = device if device is None or isinstance(device, int) else device.raw.number
        self._client.fault(fault, number)
