# SPDX-License-Identifier: GPL-2.0-or-later
"""What was told about names lately, for a comparison with what they are.

behind.retelling notes here what it told.  The kernel merges the records of what one process does to
one name as long as they are unread, so a record may not tell the result.

Invariants
    A directory is pinned while one of its names waits for the comparison.
    At most MOST names wait for it, and at most MOST that were compared are remembered.
"""

from __future__ import annotations

from collections.abc import Callable

from fusenotify.engine import core
from fusenotify.fs.inodes import Inode

MOST = 20_000

Name = tuple[Inode, bytes]
# What before() returns if nothing was told.
UNKNOWN = b""


class NamesTold:
    """The handles of the objects that names were told to have; None for a removed name."""

    def __init__(self) -> None:
        self._names: dict[Name, bytes | None] = {}
        self._compared: dict[Name, bytes | None] = {}
        self._directories: set[bytes] = set()

    def __bool__(self) -> bool:
        """Return whether names wait for the comparison."""
        return bool(self._names)

    def before(self, parent: core.Inode, name: bytes) -> bytes | None:
        """Return the handle that a name was told to have; UNKNOWN if nothing was told lately."""
        if not isinstance(parent, Inode):
            return UNKNOWN
        key = parent, name
        if key in self._names:
            return self._names[key]
        return self._compared.get(key, UNKNOWN)

    def forget_name(self, parent: core.Inode, name: bytes) -> None:
        """Note that a name was changed and that this was not told."""
        if not isinstance(parent, Inode):
            return
        self._compared.pop((parent, name), None)
        if self._names.pop((parent, name), UNKNOWN) != UNKNOWN:
            parent.unpin()

    def told_by_request(
        self, parent: core.Inode, name: bytes, handle: bytes | None, is_dir: bool = False
    ) -> None:
        """Do what told() does for what a request told, which need not be compared."""
        if not isinstance(parent, Inode):
            return
        if handle is not None and is_dir:
            self._directories.add(handle)
        names = self._names if (parent, name) in self._names else self._compared
        names[parent, name] = handle
        if len(self._compared) > MOST:
            self._forget_compared()

    def told(
        self, parent: core.Inode, name: bytes, handle: bytes | None, is_dir: bool = False
    ) -> None:
        """Note that a name was told to have a handle, or to be removed (None)."""
        if not isinstance(parent, Inode) or not parent.is_known:
            return
        if handle is not None and is_dir:
            self._directories.add(handle)
        if (parent, name) not in self._names:
            if len(self._names) >= MOST:
                return
            parent.pin()
        self._names[parent, name] = handle

    def is_directory(self, handle: bytes) -> bool:
        """Return whether the object that was told with a handle is a directory."""
        return handle in self._directories

    def compare(
        self,
        now: Callable[[Inode, bytes], bytes | None],
        agreed: Callable[[Inode, bytes], None],
        is_final: Callable[[Inode], bool],
        mend: Callable[[Inode, bytes, bytes | None, bytes | None], None],
    ) -> bool:
        """Compare all names with what they are; return whether another comparison is needed.

        now() returns the handle that a name has; agreed() is called for names that are as told.
        If a name differs, is_final() is called with its directory, and returns whether all
        changes that show there were told; then mend() is called.
        """
        names, self._names = self._names, {}
        again = False
        for (parent, name), told in names.items():
            is_now = now(parent, name)
            if is_now == told:
                self._compared[parent, name] = told
                agreed(parent, name)
            elif not is_final(parent):
                self.told(parent, name, told)
                again = True
            else:
                mend(parent, name, told, is_now)
                again = True
            parent.unpin()
        if len(self._compared) > MOST:
            self._forget_compared()
        return again

    def _forget_compared(self) -> None:
        self._compared.clear()
        self._directories.clear()

    def forget(self) -> None:
        """Forget everything that was told."""
        for parent, _ in self._names:
            parent.unpin()
        self._names.clear()
        self._forget_compared()
