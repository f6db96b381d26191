# SPDX-License-Identifier: GPL-2.0-or-later
"""Open files and directories: one descriptor of SOURCE per open description.

fs.requests keeps them by number, which is the descriptor.  FLUSH, READ, WRITE
and RELEASE do not name their caller, so the opener is remembered here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from fusenotify.credentials import Actor
from fusenotify.engine.hooks import File
from fusenotify.fs.descriptors import Held
from fusenotify.fs.inodes import Inode
from fusenotify.fs.syscalls import entries, getdents, may_be_the_last

# The program's flags with which SOURCE's file is opened, too.  O_APPEND is handled at each write
# (fs.appending; but see fs.file_requests.descriptor_of()).  O_SYNC and O_DSYNC lead to FSYNCs,
# which let other requests go on.  O_DIRECT would need aligned buffers, and Python's are not.
_PASSED_ON = os.O_ACCMODE | os.O_TRUNC | os.O_NOATIME


def flags_below(flags: int) -> int:
    """Return the flags with which SOURCE's file is opened."""
    return flags & _PASSED_ON


class OpenFile(File):
    """An open file.

    fd is the descriptor of SOURCE's file.  actor is who opened it, with the ids uid and
    gid.  appends says that it was opened with O_APPEND and for writing, stores that a
    program may store to a mapping of it, direct that reads bypass the kernel's cache,
    only_appends that fd has O_APPEND.
    """

    __slots__ = ("actor", "appends", "direct", "fd", "gid", "only_appends", "stores", "uid")

    inode: Inode

    def __init__(self, inode: Inode, fd: int, flags: int, actor: Actor) -> None:
        access = flags & os.O_ACCMODE
        writable = access != os.O_RDONLY
        super().__init__(inode, writable)
        self.appends = writable and flags & os.O_APPEND != 0
        self.stores = access == os.O_RDWR
        self.direct = self.only_appends = False
        self.fd = fd
        self.actor = actor
        self.uid = actor.uid
        self.gid = actor.gid


class OpenDirectory(OpenFile):
    """An open directory.  Its offsets are those of SOURCE's directory.

    At most one batch of its entries is kept.  So the memory for a listing does not
    grow with the directory, and a program that removes the files that it lists
    misses no more of them than in SOURCE.
    """

    __slots__ = ("_batch", "_index", "_offset")

    def __init__(self, inode: Inode, fd: int, flags: int, actor: Actor) -> None:
        super().__init__(inode, fd, flags, actor)
        self._batch = b""
        # The position of the listing: an index in the batch, and an offset in the directory.
        self._index = self._offset = 0

    def entries(self, offset: int) -> Iterator[tuple[bytes, int]]:
        """Yield names, each with the offset after it, from an offset on.

        An empty name is yielded where the directory probably ends; to be sure takes a
        system call.  The position moves past a name when the next one is asked for.

        Raises OSError; EINVAL for a wrong offset.
        """
        if offset != self._offset or not offset:
            self._seek(offset)
        while True:
            for name, index, behind in entries(self._batch, self._index):
                yield name, behind
                self._index, self._offset = index, behind
            if self._batch and may_be_the_last(self._batch):
                yield b"", self._offset
            self._batch, self._index = getdents(self.fd), 0
            if not self._batch:
                return

    def _seek(self, offset: int) -> None:
        self._offset = offset
        # If an answer did not fit a program's buffer, the next request goes back a little.
        if offset:
            found = (index for _, index, behind in entries(self._batch, 0) if behind == offset)
            if (index := next(found, None)) is not None:
                self._index = index
                return
        os.lseek(self.fd, offset, os.SEEK_SET)
        self._batch, self._index = b"", 0


class _Several:
    """The open files of an object that is open more than once."""

    __slots__ = ("files", "storers", "writers")

    def __init__(self) -> None:
        self.files: dict[OpenFile, None] = {}
        self.writers = self.storers = 0

    def add(self, file: OpenFile) -> None:
        self.files[file] = None
        self.writers += file.writable
        self.storers += file.stores

    def remove(self, file: OpenFile) -> None:
        del self.files[file]
        self.writers -= file.writable
        self.storers -= file.stores


class FilesByInode:
    """The open files of a mount, by inode."""

    def __init__(self) -> None:
        # Nearly all objects are open only once.
        self._by_inode: dict[Held, OpenFile | _Several] = {}

    def add(self, file: OpenFile) -> None:
        """Add a file that was opened."""
        known = self._by_inode.setdefault(file.inode, file)
        if known is file:
            return
        if isinstance(known, OpenFile):
            first, known = known, _Several()
            known.add(first)
            self._by_inode[file.inode] = known
        known.add(file)

    def remove(self, file: OpenFile) -> None:
        """Remove a file that is being closed."""
        known = self._by_inode[file.inode]
        if isinstance(known, _Several):
            known.remove(file)
            if known.files:
                return
        del self._by_inode[file.inode]

    def any_of(self, inode: Held) -> int:
        """Return the descriptor of one of inode's open files, or -1."""
        known = self._by_inode.get(inode)
        if isinstance(known, _Several):
            known = next(iter(known.files))
        return -1 if known is None else known.fd

    def has_writer(self, inode: Held) -> bool:
        """Return whether inode is open for writing."""
        known = self._by_inode.get(inode)
        if isinstance(known, _Several):
            return known.writers > 0
        return known is not None and known.writable

    def has_storer(self, inode: Held) -> bool:
        """Return whether a program may store to a mapping of inode."""
        known = self._by_inode.get(inode)
        if isinstance(known, _Several):
            return known.storers > 0
        return known is not None and known.stores
