# SPDX-License-Identifier: GPL-2.0-or-later
"""By which of several names of a file a program came.

OPEN, SETATTR and the requests on extended attributes say only which object is
meant.  fs.operations says here what was looked up and linked, and with
fs.file_requests asks before it tells engine.hooks.

The kernel does not remember the names of a file with several links (Requests.
entry()), so a call that gives a path is a LOOKUP, then its request, of one
thread.  There is one exception: a file's only name, which the kernel remembers
for a while when the file gets a second one.  Where somebody may hear of the
file, then or later, the kernel is told to look all names up again (Linux 6.16).
An older one remembers it, and who opens without a LOOKUP comes by that one.  To
have it drop that name alone is no way out: it waits for the lock of its directory,
and a daemon that is killed meanwhile leaves who holds the lock waiting for ever.

Invariant
    At most MOST threads and MOST files are remembered, those last heard of; for
        others it is the name looked up last, by whomever.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from fusenotify.engine.core import Dentry, Inode

MOST = 1000


class NamesUsed:
    """seconds is for how long the kernel may remember a name (View.entry_timeout).

    waiting are the threads that looked up one of several names and have not yet
    said what for, each with the name.  forget has the kernel look all names up
    again, and returns whether it will (Negotiation.next_epoch).
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.forget: Callable[[], bool] = bool  # it will not
        self.waiting: OrderedDict[int, Dentry] = OrderedDict()
        # By file: the name that the kernel may remember, and until when (monotonic).
        self._remembered: OrderedDict[Inode, tuple[Dentry, float]] = OrderedDict()

    def looked_up(self, inode: Inode, thread: int) -> None:
        """A thread (0: not known) looked up inode's name used last, which is one of several."""
        self.settled(thread)
        dentry = inode.dentry
        if dentry is None:
            return
        if inode in self._remembered and self._remembered[inode][0] is dentry:
            del self._remembered[inode]  # told that it is one of several
        if thread:
            self.waiting[thread] = dentry
            if len(self.waiting) > MOST:
                self.waiting.popitem(last=False)

    def settled(self, thread: int) -> None:
        """A thread has looked up a file's only name, or a name to rename or remove it."""
        self.waiting.pop(thread, None)

    def linked(
        self, inode: Inode, used: Dentry | None, names: int, thread: int, is_heard: bool
    ) -> None:
        """A thread gave inode one name more, so many by now; used is the one used before.

        is_heard says that a watch may be told of what is done by one of them.
        """
        self.settled(thread)
        if names == 2 and used is not None:  # until now it was the only one
            if is_heard and self.forget():
                return
            self._remembered[inode] = used, time.monotonic() + self._seconds
            if len(self._remembered) > MOST:
                self._remembered.popitem(last=False)

    def watched(self) -> None:
        """A watch is about to be added, which may hear of files that nobody heard of before."""
        if self._remembered and self.forget():
            self._remembered.clear()

    def use(self, inode: Inode, thread: int, *, opens: bool = False) -> None:
        """Make the name by which a thread comes to inode, one of several, that used last.

        opens says that it comes by a name; without, it may come by a descriptor.
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
