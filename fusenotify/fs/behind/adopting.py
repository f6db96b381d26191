# SPDX-License-Identifier: GPL-2.0-or-later
"""Make directories known that others have made, so that each gets a mark of its own.

behind.retelling uses it for the tree watches of users who cannot mark whole filesystems
(behind.marks).
"""

from __future__ import annotations

import os
from contextlib import suppress

from fusenotify.bits import IN_CREATE, IN_ISDIR
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.behind.names_told import NamesTold
from fusenotify.fs.behind.whereabouts import Whereabouts
from fusenotify.fs.inodes import Inode, Inodes

# How many directories below a new one get a mark at once.
MOST = 10_000


class Adopting:
    """Makes directories of a table of inodes known; told has what was told about names."""

    def __init__(
        self, inodes: Inodes, hooks: Hooks, whereabouts: Whereabouts, told: NamesTold
    ) -> None:
        self._inodes = inodes
        self._hooks = hooks
        self._whereabouts = whereabouts
        self._told = told

    def adopt(self, parent: Inode, name: bytes, *, tells: bool) -> None:
        """Make a new directory and those below it known, so that each gets a mark.

        tells says that their entries are new, too, and are told.
        """
        found = [(parent, name)]
        for above, each in found:
            with suppress(OSError):
                inode, _ = self._inodes.lookup(above, each)
                self._whereabouts.hold(inode)
                for entry in os.scandir(os.fsencode(inode.path)) if inode.is_dir else ():
                    is_dir = entry.is_dir(follow_symlinks=False)
                    if is_dir and len(found) < MOST:
                        found.append((inode, entry.name))
                    handle = self._whereabouts.handle_at(inode, entry.name) if tells else None
                    if handle is not None and self._told.before(inode, entry.name) != handle:
                        isdir = IN_ISDIR if is_dir else 0
                        self._hooks.happened_to_name(inode, entry.name, IN_CREATE | isdir)
                        self._told.told(inode, entry.name, handle, is_dir)
