# SPDX-License-Identifier: GPL-2.0-or-later
"""File handles: an object is opened again by its handle, or recognized by it.

A handle differs from that of the next object with the same inode number.
fs.descriptors asks for one when it closes a descriptor.  Linux: name_to_handle_at(2).
"""

from __future__ import annotations

import os
from contextlib import suppress

from fusenotify.fs.syscalls import file_handle, open_by_handle, path_of

# The flags for holding an object without opening it for reading, and without following a link.
HOLD = os.O_PATH | os.O_NOFOLLOW


class Compared(bytes):
    """A handle that distinguishes objects, but cannot be opened.

    The daemon is not root, or the object is not in SOURCE's own mount.
    """


class FileHandles:
    """The handles of SOURCE's own filesystem and of those below; root_fd is a descriptor of SOURCE.

    opens says that the daemon can open the handles of SOURCE's mount: it is root, and
    the filesystem has handles.
    """

    def __init__(self, root_fd: int) -> None:
        self._anchor = _anchor(root_fd)
        self._mount_id = 0 if self._anchor is None else file_handle(root_fd)[0]

    @property
    def opens(self) -> bool:
        return self._anchor is not None

    def of(self, fd: int) -> bytes | None:
        """Return the handle of an object, or None; it can be opened unless it is Compared."""
        with suppress(OSError):  # a filesystem without handles
            mount_id, handle = file_handle(fd)
            can_open = self.opens and mount_id == self._mount_id
            return handle if can_open else Compared(handle)
        return None

    def open(self, handle: bytes) -> int:
        """Open a descriptor of the object of a handle.

        Raises OSError: ESTALE (the object is gone), EMFILE.
        """
        assert self._anchor is not None
        return open_by_handle(self._anchor, handle, HOLD)

    def close(self) -> None:
        if self._anchor is not None:
            os.close(self._anchor)


def _anchor(root_fd: int) -> int | None:
    """Return a descriptor of SOURCE's filesystem for opening handles; None if they cannot be."""
    if os.geteuid():
        return None
    with suppress(OSError):
        anchor = os.open(path_of(root_fd), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.close(open_by_handle(anchor, file_handle(root_fd)[1], HOLD))
        except OSError:
            os.close(anchor)
            raise
        return anchor
    return None
