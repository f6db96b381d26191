# SPDX-License-Identifier: GPL-2.0-or-later
"""The name, of several names of a file, that a program has used.

OPEN, SETATTR and the requests for extended attributes name only the object.
fs.operations reports here which names were looked up and linked; the request
modules ask here before they call engine.hooks.

The kernel does not remember the names of a file with several links
(Requests.entry()), so a system call with a path is a LOOKUP, followed by its
request from the same thread.  There is one exception: a file's only name, which
the kernel remembers for a while after the file gets a second one.  A program that
opens without a LOOKUP has used that one.  Telling the kernel to drop that name is no
solution: it waits for the lock of the directory, and if the daemon is killed
during that time, the process that holds the lock waits for ever.  Nor is telling it to
look all names up again (FUSE_NOTIFY_INC_EPOCH, Linux 6.16): it then takes away
whatever is mounted inside the mount.

Invariant
    At most MOST threads and MOST files are remembered, the latest ones.  For
        others the name that any thread looked up last counts.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from fusenotify.engine.core import Dentry, Inode

MOST = 1000


class NamesUsed:
    """The names that threads have looked up, and those that the kernel may remember.

    seconds is how long the kernel may remember a name (View.entry_timeout).
    waiting has the threads that looked up one of several names and have made no
    request for it yet, each with the name.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.waiting: OrderedDict[int, Dentry] = OrderedDict()
        # By file, the name that the kernel may remember, and until when (monotonic).
        self._remembered: OrderedDict[Inode, tuple[Dentry, float]] = OrderedDict()

    def looked_up(self, inode: Inode, thread: int) -> None:
        """Record that a thread looked up one of several names of inode: the one used last.

        thread is 0 if it is unknown.
        """
        self.settled(thread)
        dentry = inode.dentry
        if dentry is None:
            return
        if inode in self._remembered and self._remembered[inode][0] is dentry:
            del self._remembered[inode]  # the kernel knows now that it is one of several
        if thread:
            self.waiting[thread] = dentry
            if len(self.waiting) > MOST:
                self.waiting.popitem(last=False)

    def settled(self, thread: int) -> None:
        """Record that a thread has looked up a file's only name, or a name to rename or remove."""
        self.waiting.pop(thread, None)

    def linked(self, inode: Inode, used: Dentry | None, names: int, thread: int) -> None:
        """Record that a thread gave inode one more name; it has so many names now.

        used is the name that was used before.
        """
        self.settled(thread)
        if names == 2 and used is not None:  # until now that was the only name
            self._remembered[inode] = used, time.monotonic() + self._seconds
            if len(self._remembered) > MOST:
                self._remembered.popitem(last=False)

    def use(self, inode: Inode, thread: int, *, opens: bool = False) -> None:
        """Make the name by which a thread has reached inode the one that was used last.

        opens says that the thread used a name; otherwise it may have used a descriptor.
        """
        dentry = self.waiting.pop(thread, None)
        if dentry is None or dentry.inode is not inode:
            if not opens:
                return
            dentry, until = self._remembered.get(inode, (None, 0.0))
            if dentry is None or time.monotonic() > until:
                return
        if not dentry.unlinked:
            inode.use_alias(dentry)
