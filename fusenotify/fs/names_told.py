# SPDX-License-Identifier: GPL-2.0-or-later
"""What was told of names lately, to be compared with what they are.

fs.retelling notes here what it told.  The kernel puts together what one process does to one name
before it is read, so a record need not say what came of it.

Invariants
    A directory is pinned while one of its names is to be compared.
    At most MOST names are remembered, and as many that were compared; of more, none is.
"""

from __future__ import annotations

from collections.abc import Callable

from fusenotify.engine import core
from fusenotify.fs.inodes import Inode

MOST = 20_000

Name = tuple[Inode, bytes]
# What before() says where nothing was told.
UNKNOWN = b""


class NamesTold:
    """The handles that names were told to have; None for a name that is told to be nobody's."""

    def __init__(self) -> None:
        self._names: dict[Name, bytes | None] = {}
        self._compared: dict[Name, bytes | None] = {}
        self._doubtful: set[Name] = set()
        self._directories: set[bytes] = set()

    def __bool__(self) -> bool:
        """Whether there are names to be compared."""
        return bool(self._names)

    def before(self, parent: core.Inode, name: bytes) -> bytes | None:
        """Return what a name was told to have, UNKNOWN where nothing was told of it lately."""
        if not isinstance(parent, Inode):
            return UNKNOWN
        key = parent, name
        if key in self._names:
            return self._names[key]
        return self._compared.get(key, UNKNOWN)

    def forget_name(self, parent: core.Inode, name: bytes) -> None:
        """A name was changed, and that was not told."""
        if not isinstance(parent, Inode):
            return
        self._compared.pop((parent, name), None)
        if self._names.pop((parent, name), UNKNOWN) != UNKNOWN:
            self._doubtful.discard((parent, name))
            parent.unpin()

    def told(
        self, parent: core.Inode, name: bytes, handle: bytes | None, is_dir: bool = False
    ) -> None:
        """A name was told to have a handle now."""
        if not isinstance(parent, Inode) or not parent.is_known:
            return
        if handle is not None and is_dir:
            self._directories.add(handle)
        if (parent, name) not in self._names:
            if len(self._names) >= MOST:
                return
            parent.pin()
        self._names[parent, name] = handle

    def told_by_request(
        self,
        parent: core.Inode,
        name: bytes,
        inode: core.Inode | None,
        handle_of: Callable[[Inode], bytes | None],
    ) -> None:
        """A request told what it made of a name."""
        if not isinstance(parent, Inode):
            return
        self._compared.pop((parent, name), None)
        if (parent, name) in self._names:
            handle = handle_of(inode) if isinstance(inode, Inode) else None
            self.told(parent, name, handle, inode is not None and inode.is_dir)

    def is_directory(self, handle: bytes) -> bool:
        """Return whether what was told to have a handle was a directory."""
        return handle in self._directories

    def compare(
        self,
        now: Callable[[Inode, bytes], bytes | None],
        agreed: Callable[[Inode, bytes], None],
        mend: Callable[[Inode, bytes, bytes | None, bytes | None], None],
    ) -> bool:
        """Compare all names with what they are; return whether that is to be done again.

        What differs is mended when it differed the last time, too: a change shows a moment
        before its record can be read.
        """
        names, self._names = self._names, {}
        again = False
        for (parent, name), told in names.items():
            is_now = now(parent, name)
            if is_now == told:
                self._compared[parent, name] = told
                self._doubtful.discard((parent, name))
                agreed(parent, name)
            elif (parent, name) not in self._doubtful:
                self._doubtful.add((parent, name))
                self.told(parent, name, told)
                again = True
            else:
                self._doubtful.discard((parent, name))
                mend(parent, name, told, is_now)
                again = True
            parent.unpin()
        if len(self._compared) > MOST:
            self._compared.clear()
            self._directories.clear()
        return again

    def forget(self) -> None:
        """What was told does not count any more."""
        for parent, _ in self._names:
            parent.unpin()
        self._names.clear()
        self._compared.clear()
        self._doubtful.clear()
        self._directories.clear()
