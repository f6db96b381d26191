# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of a filesystem that the server needs.

fs.mount implements them; tests have a tree in memory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from fusenotify.credentials import Credentials
from fusenotify.engine.core import Inode
from fusenotify.heard import Heard


class Tree(Protocol):
    """A tree whose objects can be watched."""

    def resolved(
        self, path: bytes, who: Credentials, *, follow: bool | None, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a context manager that yields the inode at path, pinned, for the user who.

        path is relative to the tree's root.  With follow, a symbolic link at
        its end is followed; with None, none on the way is followed, either.  With
        directory, it must lead to a directory.

        Raises OSError as inotify_add_watch(2), and EXDEV if a link leaves the
        tree.
        """

    def passed(
        self, descriptor: int, who: Credentials, *, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a context manager that yields the inode of a client's descriptor, pinned.

        With directory, it must be a directory.

        Raises OSError: EBADF (not opened with O_PATH), EXDEV (not of this
        tree), EACCES, ENOTDIR.
        """

    def heard(self) -> Heard:
        """Return what is heard of changes that were made directly to the tree."""

    async def notify(self, path: bytes, what: int) -> None:
        """Report a change at a path that only the caller knows of.

        what has the bits of events; with 0, the tree finds out what has changed.  Returns when
        programs see the change.
        Raises OSError.
        """

    async def fence(self) -> None:
        """Wait until the events of everything done in the tree before this call are queued."""

    def client_came(self, uid: int) -> None:
        """Count a connection of a user, which takes a descriptor as an open file does.

        Raises OSError (EMFILE) if the user has taken the user's share of descriptors.
        """

    def client_went(self, uid: int) -> None:
        """Count a connection of a user as ended."""
