# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts below SOURCE: they are shown as they come and go.

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

# How long after a change below SOURCE the kernel is told a second time to forget a name.
_SETTLED_SECONDS = 0.05
# The pause before mounts are scanned again after a failure; it doubles each time.
_LOOK_AGAIN_SECONDS = 0.5
_LOOK_AGAIN_AT_MOST = 60.0


class Following:
    """Follows the mounts below SOURCE.  another is called when one came or went."""

    def __init__(self, inodes: Inodes, hooks: Hooks, another: Callable[[], None]) -> None:
        self._inodes = inodes
        self._hooks = hooks
        self._another = another

    async def run(self) -> None:
        """Show new mounts below SOURCE, and release those that are gone, for ever."""
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
        """Show the mounts below SOURCE as they are now; return whether all could be seen."""
        try:
            seen = await trio.to_thread.run_sync(self._inodes.submounts.scan)
        except OSError as error:  # no descriptor is left, for a while
            log.warning("what is mounted below SOURCE cannot be seen now: %s", error.strerror)
            return False
        changed = self._update(seen)
        # Twice, because the kernel may still be processing an earlier answer.
        for _ in range(2):
            for place in changed:
                directory = self._inodes.at(place)
                if directory is not None:
                    number = pyfuse3.InodeT(directory.number)
                    pyfuse3.invalidate_entry_async(number, place.name, ignore_enoent=True)
            await trio.sleep(_SETTLED_SECONDS)
        return seen.is_whole

    def _update(self, seen: Seen) -> list[Place]:
        """Update the table of mounts; return the places that have changed."""
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
