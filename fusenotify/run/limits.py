# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits of a run on instances and watches; those of mounts and of the kernel come on top.

run.calls asks here for each new descriptor and each new watch.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from fusenotify.run.descriptor import InotifyDescriptor
from fusenotify.run.sources import Source


class RunLimits:
    """The limits, and descriptors, which are all of the run.

    max_user_instances is the kernel's if it is None; max_user_watches None is no limit.
    """

    def __init__(
        self,
        max_user_instances: int | None,
        max_user_watches: int | None,
        descriptors: Mapping[bytes, InotifyDescriptor],
    ) -> None:
        self._max_user_instances = max_user_instances
        self._max_user_watches = max_user_watches
        self._descriptors = descriptors

    def allow_another(self, owner: int, look_for_gone: Callable[[], object]) -> bool:
        """Return whether a user has fewer descriptors than max_user_instances.

        look_for_gone is called first if it matters, to drop those that were just closed.
        """
        most = self._max_user_instances
        if most is None:
            most = kernel_limit("max_user_instances")
        if len(self._descriptors) < most:
            return True
        look_for_gone()
        return sum(one.owner == owner for one in self._descriptors.values()) < most

    async def kept(self, source: Source, wd: int) -> int:
        """Return the number of a watch that was added, unless it is one too many.

        That is found out afterwards, because no limit concerns a watch that was there before.

        Raises OSError: ENOSPC.
        """
        most = self._max_user_watches
        if most is None or self._watches() <= most:
            return wd
        for descriptor in list(self._descriptors.values()):
            await descriptor.refresh()  # some watches may have ended
            descriptor.settle()
        if self._watches() > most:
            await source.take_back(wd)
            raise OSError(errno.ENOSPC, "the run has max_user_watches")
        return wd

    def _watches(self) -> int:
        return sum(one.watches() for one in self._descriptors.values())


def kernel_limit(name: str) -> int:
    """Return the kernel's limit of a name, such as "max_queued_events"."""
    with open(f"/proc/sys/fs/inotify/{name}") as file:
        return int(file.read())
