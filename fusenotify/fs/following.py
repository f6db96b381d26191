# SPDX-License-Identifier: GPL-2.0-or-later
"""What is mounted below SOURCE, shown as it comes and goes.

fs.mount runs this beside the requests; fs.submounts has the table.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pyfuse3
import trio

from fusenotify.engine.hooks import Hooks
from fusenotify.fs.inodes import Inodes
from fusenotify.fs.submounts import Place, Seen

log = logging.getLogger(__name__)

# How long after a change below SOURCE the kernel is asked once more to forget what a name was.
_SETTLED_SECONDS = 0.05
# When it is looked again what is mounted below SOURCE, where that failed; later each time.
_LOOK_AGAIN_SECONDS = 0.5
_LOOK_AGAIN_AT_MOST = 60.0


class Following:
    """Follows the mounts below SOURCE.  another is called where one came or went."""

    def __init__(self, inodes: Inodes, hooks: Hooks, another: Callable[[], None]) -> None:
        self._inodes = inodes
        self._hooks = hooks
        self._another = another

    async def run(self) -> None:
        """Show what is mounted below SOURCE, and let go of what is taken away, for ever."""
        submounts = self._inodes.submounts
        while True:
            await submounts.changed()
            pause = _LOOK_AGAIN_SECONDS
            while not await self._look():
                await trio.sleep(pause)
                pause = min(2 * pause, _LOOK_AGAIN_AT_MOST)

    async def let_go_of_others(self, seconds: float) -> None:
        """Close descriptors now and then, so that filesystems below an uncloned SOURCE can end."""
        while True:
            await trio.sleep(seconds)
            self._inodes.descriptors.let_go_of_others()

    async def _look(self) -> bool:
        """Show what is mounted below SOURCE now; return whether all of it could be seen."""
        try:
            seen = await trio.to_thread.run_sync(self._inodes.submounts.scan)
        except OSError as error:  # no descriptor is left, for a while
            log.warning("what is mounted below SOURCE cannot be seen now: %s", error.strerror)
            return False
        changed = self._update(seen)
        # The kernel may have had the answer of before in its hands: twice.
        for _ in range(2):
            for place in changed:
                directory = self._inodes.at(place)
                if directory is not None:
                    number = pyfuse3.InodeT(directory.number)
                    pyfuse3.invalidate_entry_async(number, place.name, ignore_enoent=True)
            await trio.sleep(_SETTLED_SECONDS)
        return seen.is_whole

    def _update(self, seen: Seen) -> list[Place]:
        """Take over which mounts there are; return the places that have changed."""
        inodes, submounts = self._inodes, self._inodes.submounts
        changed, gone = submounts.update(seen)
        if changed:
            self._another()
        for shown in gone:
            if shown.device != inodes.device and shown.device not in submounts.devices:
                self._hooks.by(None).unmounted(inodes.of_device(shown.device))
                inodes.abandon(shown.device)
            os.close(shown.fd)
        return changed
