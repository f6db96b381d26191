# SPDX-License-Identifier: GPL-2.0-or-later
"""What the server needs of a filesystem.  fs.mount offers it; tests have one in memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from fusenotify.credentials import Credentials
from fusenotify.engine.core import Inode


class Tree(Protocol):
    """A tree whose objects can be watched."""

    def resolved(
        self, path: bytes, who: Credentials, *, follow: bool, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a block in which the inode that path names for who is pinned.

        path is relative to the tree's root.  A symbolic link at its end is
        followed where follow; directory asks for a directory.

        Raises OSError, as inotify_add_watch(2) says, and EXDEV where a link
        leaves the tree.
        """

    def passed(
        self, descriptor: int, who: Credentials, *, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a block in which the inode that a client's descriptor is of is pinned.

        directory asks for a directory.

        Raises OSError: EBADF (not opened with O_PATH), EXDEV (not of this
        tree), EACCES, ENOTDIR.
        """

    async def fence(self) -> None:
        """Return when the events of all that was done in the tree before are queued."""

    def client_came(self, uid: int) -> None:
        """Count a connection of a user's, which takes a descriptor as an open file does.

        Raises OSError, EMFILE where the user has a share of them already.
        """

    def client_went(self, uid: int) -> None:
        """Give that descriptor back."""
