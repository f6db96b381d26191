# SPDX-License-Identifier: GPL-2.0-or-later
"""The O_PATH descriptors of inodes, of which only so many are open at a time.

fs.inodes builds its Inode on Held, and opens what it holds through
Descriptors; so do the requests that open files.  Where descriptors run short,
those of the inodes that were not used for longest are closed, and opened again
when they are asked for: by file handle where the daemon may (root, in SOURCE's
own filesystem, if that has handles), else by name.

Invariants
    A descriptor that was asked for stays open until KEPT other inodes' were
        opened: longer than a request needs it, which asks for four at most.
    What is opened again is the same object, or else it is ESTALE.  A handle
        tells objects apart that bore one inode number after each other; where
        the filesystem has none, only st_dev and st_ino do.
    The root, and what has lost its last name through the mount, keep theirs.
    SPARE descriptors are left for what the daemon opens for a moment, and for
        clients.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fusenotify.engine import core
from fusenotify.fs.syscalls import file_handle, open_by_handle, path_of

# How an object is held: without reading it, and not what a link points to.
HOLD = os.O_PATH | os.O_NOFOLLOW
KEPT = 8
SPARE = 8
# Each open descriptor keeps the kernel's own inode and name in memory.
MOST = 65_536


class Held(core.Inode):
    """An object of SOURCE.

    device and ino are its st_dev and st_ino; held is its descriptor, or -1 while it is closed;
    handle its file handle once it was closed, where it has one; used says when
    it was asked for last, in descriptors opened, and queued what that was when
    it took its place among those that may be closed, between before and after.
    """

    __slots__ = (
        "after",
        "before",
        "descriptors",
        "device",
        "handle",
        "held",
        "ino",
        "queued",
        "used",
    )

    before: Held | _Ends | None
    after: Held | _Ends | None

    def __init__(
        self, descriptors: Descriptors, fd: int, device: int, ino: int, is_dir: bool
    ) -> None:
        super().__init__(is_dir)
        self.descriptors = descriptors
        self.held = fd
        self.device = device
        self.ino = ino
        self.handle: bytes | None = None
        self.used = self.queued = descriptors.opened
        self.before = self.after = None

    @property
    def fd(self) -> int:
        """Its O_PATH descriptor.

        Raises OSError where it has to be opened again: ESTALE where it is gone
        from where it was, EMFILE.
        """
        self.used = self.descriptors.opened
        return self.held if self.held >= 0 else self.descriptors.reopen(self)

    def about_to_close(self) -> None:
        """Its descriptor is closed next."""

    @property
    def path(self) -> str:
        """A path to the object itself, for calls that take no descriptor."""
        return path_of(self.fd)


class Compared(bytes):
    """A handle that tells objects apart, but by which none can be opened.

    The daemon is not root, or the object is not in SOURCE's own mount.
    """


class _Ends:
    """Where the list of those that may be closed begins and ends."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: Held | _Ends = self
        self.after: Held | _Ends = self


class Descriptors:
    """The open descriptors of a table of inodes, whose root is root_fd.

    limit is how many the process may have open (by default RLIMIT_NOFILE);
    inodes take half of them, and MOST at most.  opened counts the inodes'
    descriptors that were ever opened.
    """

    def __init__(self, root_fd: int, limit: int | None = None) -> None:
        if limit is None:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.opened = 0
        self._most = min(limit // 2, MOST)
        self._ceiling = limit - SPARE
        # Those that were open when they were last counted, and all opened since.
        self._open_at_most = self._ceiling
        self._open = 0
        # Those that may be closed, those that were not used for longest in front: a list through
        # the inodes themselves, which takes less than any table of them.
        self._ends = _Ends()
        self._anchor = _anchor(root_fd)
        self._mount_id = 0 if self._anchor is None else file_handle(root_fd)[0]

    def __len__(self) -> int:
        return self._open

    def open(self, path: str | bytes, flags: int, *, dir_fd: int | None = None) -> int:
        """Open a descriptor for an inode, or for a moment; others are closed to make room.

        Raises OSError.
        """
        if self._open_at_most >= self._ceiling:
            self._make_room()
        try:
            fd = os.open(path, flags, dir_fd=dir_fd)
        except OSError as error:
            if error.errno != errno.EMFILE or not self._make_room():
                raise
            fd = os.open(path, flags, dir_fd=dir_fd)
        self._open_at_most += 1
        return fd

    def open_file(
        self, path: str | bytes, flags: int, mode: int = 0, *, dir_fd: int | None = None
    ) -> int:
        """Open a descriptor that a program keeps, as os.open() does.

        Raises OSError, EMFILE while SPARE are left.
        """
        self.admit_file()
        return os.open(path, flags, mode, dir_fd=dir_fd)

    def admit_file(self) -> None:
        """Make room for a descriptor that a program keeps, which will be opened elsewhere.

        Raises OSError, EMFILE while SPARE are left.
        """
        if self._open_at_most >= self._ceiling and not self._make_room():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._open_at_most += 1

    def add(self, held: Held, fd: int) -> None:
        """Take a descriptor as an inode's own; it is closed when others need the room."""
        held.held = fd
        self.opened += 1
        self._open_at_most += 1  # again, where open() counted it: it is an upper bound
        held.used = held.queued = self.opened
        self._put_last(held)
        self._open += 1
        if self._open > self._most:
            self._close_oldest()

    def remove(self, held: Held) -> None:
        """Close the descriptor of an inode that nobody knows any more."""
        if held.before is not None:
            self._shut(held)

    def matches(self, held: Held, fd: int, mode: int) -> bool:
        """Return whether fd is the very object of which a descriptor was closed.

        It has the same st_dev and st_ino; mode is its st_mode.
        """
        if held.handle is None:
            return held.is_dir == stat.S_ISDIR(mode)
        return file_handle(fd)[1] == held.handle

    def close(self) -> None:
        while isinstance(held := self._ends.after, Held):
            self._shut(held)
        if self._anchor is not None:
            os.close(self._anchor)

    def reopen(self, held: Held) -> int:
        """Open the descriptor of an inode again.

        Raises OSError: ESTALE, EMFILE.
        """
        if held.handle is not None and not isinstance(held.handle, Compared):
            assert self._anchor is not None
            if self._open_at_most >= self._ceiling:
                self._make_room()
            fd = open_by_handle(self._anchor, held.handle, HOLD)
            self._open_at_most += 1
        else:
            fd = self._by_name(held)
        self.add(held, fd)
        return fd

    def _by_name(self, held: Held) -> int:
        for dentry in held.aliases():
            if dentry.unlinked:
                continue
            directory = dentry.parent
            assert isinstance(directory, Held)
            with suppress(FileNotFoundError, NotADirectoryError), self._reached(directory) as above:
                fd = self._step(above, dentry.name, held)
                if fd >= 0:
                    return fd
        raise _stale()

    @contextmanager
    def _reached(self, directory: Held) -> Iterator[int]:
        """Yield a descriptor of a directory, reached from the nearest one above that is open.

        None of those between is taken as an inode's own: so many at once
        would make others close that the request still needs.
        """
        closed: dict[Held, bytes] = {}
        while directory.held < 0:
            dentry = directory.dentry
            # Names changed behind the mount may lead in a circle.
            if dentry is None or dentry.unlinked or directory in closed:
                raise _stale()
            closed[directory] = dentry.name
            assert isinstance(dentry.parent, Held)
            directory = dentry.parent
        fd = directory.fd
        try:
            for below, name in reversed(closed.items()):
                above, fd = fd, self._step(fd, name, below)
                if above != directory.held:
                    os.close(above)
                if fd < 0:
                    raise _stale()
            yield fd
        finally:
            if fd >= 0 and fd != directory.held:
                os.close(fd)

    def _step(self, above: int, name: bytes, sought: Held) -> int:
        """Return a new descriptor of a name, or -1 where it is not the object sought."""
        fd = self.open(name, HOLD, dir_fd=above)
        status = os.fstat(fd)
        same = status.st_ino == sought.ino and status.st_dev == sought.device
        if same and (sought.handle is None or self.matches(sought, fd, status.st_mode)):
            return fd
        os.close(fd)
        return -1

    def _make_room(self) -> bool:
        """Close descriptors of inodes until SPARE are free; return whether they are."""
        try:
            used = len(os.listdir("/proc/self/fd")) - 1  # without the one that lists
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            used = self._ceiling + SPARE
        while used >= self._ceiling and self._close_oldest():
            used -= 1
        self._open_at_most = used
        return used < self._ceiling

    def _close_oldest(self) -> bool:
        """Close the descriptor that was not used for longest; return whether there was one."""
        for _ in range(self._open):
            held = self._ends.after
            assert isinstance(held, Held)
            used = held.used
            if held.queued == used and not held.unlinked and self.opened - used >= KEPT:
                held.about_to_close()
                self._remember_handle(held)
                self._shut(held)
                held.held = -1
                return True
            held.queued = used
            self._take_out(held)
            self._put_last(held)
        return False

    def _shut(self, held: Held) -> None:
        self._take_out(held)
        self._open -= 1
        os.close(held.held)

    def _put_last(self, held: Held) -> None:
        ends, last = self._ends, self._ends.before
        last.after = ends.before = held
        held.before, held.after = last, ends

    def _take_out(self, held: Held) -> None:
        before, after = held.before, held.after
        assert before is not None
        assert after is not None
        before.after, after.before = after, before
        held.before = held.after = None

    def _remember_handle(self, held: Held) -> None:
        if held.handle is not None:
            return
        with suppress(OSError):  # a filesystem without handles: by name
            mount_id, handle = file_handle(held.held)
            opens = self._anchor is not None and mount_id == self._mount_id
            held.handle = handle if opens else Compared(handle)


def _anchor(root_fd: int) -> int | None:
    """Return a descriptor of SOURCE's filesystem that handles can be opened by, if they can."""
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


def _stale() -> OSError:
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
