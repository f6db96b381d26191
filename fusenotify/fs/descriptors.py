# SPDX-License-Identifier: GPL-2.0-or-later
"""The O_PATH descriptors of inodes, of which only a limited number is open at a time.

fs.inodes bases its Inode on Held, and opens descriptors through Descriptors; so do
requests that open files.  When descriptors run short, those of the inodes that were
not used for longest are closed, and opened again when needed: by file handle if the
daemon may (it is root, and the object is in SOURCE's own filesystem, which has
handles), otherwise by name.

Invariants
    A descriptor that was asked for stays open until KEPT others were asked for.
        No request needs it longer, since a request asks for at most four.
    A descriptor is opened again for the same object, or the error is ESTALE.
        Handles distinguish objects that had the same inode number one after the
        other; without handles, only st_dev and st_ino are compared.
    The root keeps its descriptor.  An object without a name is reached through
        a program's open file; if there is none, it keeps its descriptor, within
        its owner's share.
    Open descriptors are counted, not looked up.  SPARE are left for those that
        the daemon opens for a moment, some for fs.processes, and files and
        clients leave KEPT_FOR_INODES for inodes.
    Descriptors of programs' files and clients' connections are shared among users.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice

from fusenotify.engine import core
from fusenotify.engine.shares import Kept, Shares
from fusenotify.fs.file_handles import HOLD, Compared, FileHandles
from fusenotify.fs.processes import kept_commands
from fusenotify.fs.submounts import Submounts
from fusenotify.fs.syscalls import file_handle, hold, open_descriptors, path_of
from fusenotify.fs.waiting import brief_places

KEPT = 8
SPARE = 12
KEPT_FOR_INODES = 2 * KEPT
# A limit, since each open descriptor keeps the kernel's own inode and name in memory.
MOST = 65_536
# How many descriptors are looked at to find one to close.  In the first half, only one that was not
# used lately is closed.
_LOOKED_AT = 64
# For opening by name: how many directories the way down may have, one in how many of them keeps
# its descriptor for the next time, and how many names of an object are tried.
_LONGEST_WAY = 4096
_KEPT_ON_THE_WAY = 64
_NAMES_TRIED = 16


class Held(core.Inode):
    """An object of SOURCE.

    device and ino are its st_dev and st_ino.  held is its descriptor, or -1 while
    that is closed; handle is its file handle, once the descriptor was closed and if
    there is one.  before and after are its neighbours in the list of those whose
    descriptor may be closed; used says that it was asked for since it was put there.
    """

    __slots__ = (
        "after",
        "before",
        "descriptors",
        "device",
        "handle",
        "held",
        "ino",
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
        self.used = False
        self.before = self.after = None

    @property
    def fd(self) -> int:
        """Its O_PATH descriptor, which is opened again if it was closed.

        Raises OSError if that fails: ESTALE if the object is not where it was, EMFILE.
        """
        self.used = True
        self.descriptors.asked_for(self)
        return self.held if self.held >= 0 else self.descriptors.reopen(self)

    def about_to_close(self) -> None:
        """Called before its descriptor is closed."""

    @property
    def path(self) -> str:
        """A path to the object itself, for calls that take no descriptor."""
        return path_of(self.fd)


class _Ends:
    """The beginning and end of the list of inodes whose descriptor may be closed."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: Held | _Ends = self
        self.after: Held | _Ends = self


class Descriptors:
    """The open descriptors of a table of inodes, whose root is that of submounts.

    limit is how many descriptors the process may have open (by default
    RLIMIT_NOFILE); inodes take half of them, and at most MOST.  shares has the
    users' shares of the rest.  borrow, which fs.requests sets, returns the
    descriptor of a program's open file of an inode, or -1.  brief is
    brief_places() of fs.waiting.
    """

    def __init__(self, submounts: Submounts, limit: int | None = None) -> None:
        if limit is None:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.submounts = submounts
        root_fd = submounts.root
        self._device = os.fstat(root_fd).st_dev
        self.handles = FileHandles(root_fd)
        self._most = min(limit // 2, MOST)
        self.brief = brief_places(limit)
        kept = SPARE + 2 * (self.brief - 1) + kept_commands(limit)
        # How many inodes, files and clients may have together.
        self._ceiling = limit - kept - open_descriptors()
        nameless = max(limit // 16, 1)
        for_users = self._ceiling - KEPT_FOR_INODES - nameless
        self.shares = Shares(for_users)
        # While users have fewer in all, nobody has more than a share, and there is room for all.
        self._plenty = min(for_users // 2, self._ceiling - self._most - nameless)
        self._nameless: Kept[Held] = Kept(nameless)
        self.borrow: Callable[[Held], int] = lambda _: -1
        self._open = 0
        # The list of inodes whose descriptor may be closed, those that were not used for longest
        # first.  It is linked through the inodes themselves, which takes less memory than a table.
        self._ends = _Ends()
        self._recent: deque[Held] = deque(maxlen=KEPT)
        self._stepped_on: Held | None = None
        self.asked_for = self._recent.append
        # Inodes whose descriptor would keep another filesystem below SOURCE from being unmounted.
        self._in_others: set[Held] = set()

    def __len__(self) -> int:
        return self._open + len(self._nameless)

    def open(
        self,
        path: str | bytes,
        flags: int,
        mode: int = 0,
        *,
        uid: int | None = None,
        dir_fd: int | None = None,
    ) -> int:
        """Open a descriptor, as os.open() does; others are closed to make room.

        uid is the user whose program keeps the descriptor, which the caller then
        takes from shares; None is for a descriptor of an inode, or for a moment.

        Raises OSError; EMFILE if it exceeds the user's share.
        """
        if uid is not None and self.shares.taken + self.submounts.count >= self._plenty:
            self.make_room(uid)
        for _ in range(SPARE):
            try:
                return os.open(path, flags, mode, dir_fd=dir_fd)
            except OSError as error:
                if error.errno != errno.EMFILE or not self._close_oldest():
                    raise
        return os.open(path, flags, mode, dir_fd=dir_fd)

    def enter(self, name: bytes, above: int) -> int:
        """Open a descriptor for name in above, or for what is mounted on it.  Raises OSError."""
        mounted = self.submounts.on(above, name) if self.submounts.is_asked else -1
        return self.open(name, HOLD, dir_fd=above) if mounted < 0 else mounted

    def make_room(self, uid: int) -> None:
        """Make room for a descriptor that a user is about to take from shares.

        Raises OSError (EMFILE).
        """
        if not self.shares.may_take(uid):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if self._is_full():
            self._close_oldest()

    def add(self, held: Held, fd: int) -> None:
        """Make fd the descriptor of an inode; it is closed when others need the room."""
        self.asked_for(held)
        self._take(held, fd)

    def _take(self, held: Held, fd: int) -> None:
        held.held = fd
        held.used = False
        self._put_last(held)
        self._open += 1
        if held.device != self._device and self.submounts.is_live:
            self._in_others.add(held)
        if self._open > self._most or self._is_full():
            self._close_oldest()

    def remove(self, held: Held) -> None:
        """Close the descriptor of an inode that is no longer known."""
        if held.before is not None:
            self._shut(held)
        elif held in self._nameless:
            self._nameless.remove(held)
            os.close(held.held)

    def give_up(self, held: Held) -> None:
        """Close the descriptor of an inode that has no name any more, so that it stays closed."""
        self.remove(held)
        held.held = -1
        held.handle = None

    def let_go_of_others(self) -> None:
        """Close descriptors in other filesystems below SOURCE, so that these can be unmounted.

        They are opened again by name.  No request may be in progress.
        """
        for held in [held for held in self._in_others if not held.unlinked]:
            self._close(held)

    def matches(self, held: Held, fd: int, mode: int) -> bool:
        """Return whether fd is a descriptor of the same object as the one that was closed.

        The two have the same st_dev and st_ino; mode is the st_mode of fd.
        """
        if held.handle is None:
            return held.is_dir == stat.S_ISDIR(mode) and not held.unlinked
        return file_handle(fd)[1] == held.handle

    def close(self) -> None:
        while isinstance(held := self._ends.after, Held):
            self._shut(held)
        while (nameless := self._nameless.pop()) is not None:
            os.close(nameless.held)
        self.handles.close()

    def reopen(self, held: Held) -> int:
        """Open the descriptor of an inode again.

        Raises OSError: ESTALE, EMFILE.
        """
        file = self.borrow(held) if held.unlinked else -1
        if file >= 0:
            fd = hold(file)
        elif held.handle is not None and not isinstance(held.handle, Compared):
            fd = self.handles.open(held.handle)
        else:
            fd = self._by_name(held)
        self.add(held, fd)
        return fd

    def _by_name(self, held: Held) -> int:
        for dentry in islice(held.aliases(), _NAMES_TRIED):
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
        """Yield a descriptor of a directory, reached from the nearest open one above it.

        Few of the descriptors on the way are kept as those of their inodes, and none
        counts as asked for, since the request still needs others.
        """
        closed: dict[Held, bytes] = {}
        while directory.held < 0:
            dentry = directory.dentry
            if dentry is None or dentry.unlinked or len(closed) == _LONGEST_WAY:
                raise _stale()
            closed[directory] = dentry.name
            assert isinstance(dentry.parent, Held)
            directory = dentry.parent
        fd = directory.fd
        is_own = True
        try:
            for level, (below, name) in enumerate(reversed(closed.items()), 1):
                above, fd = fd, self._step(fd, name, below)
                if not is_own:
                    os.close(above)
                if fd < 0:
                    raise _stale()
                is_own = not level % _KEPT_ON_THE_WAY
                if is_own:
                    self._stepped_on = below
                    self._take(below, fd)
            yield fd
        finally:
            if fd >= 0 and not is_own:
                os.close(fd)

    def _step(self, above: int, name: bytes, sought: Held) -> int:
        """Return a new descriptor of the object of a name, or -1 if it is not the one sought."""
        fd = self.enter(name, above)
        status = os.fstat(fd)
        same = status.st_ino == sought.ino and status.st_dev == sought.device
        if same and (sought.handle is None or self.matches(sought, fd, status.st_mode)):
            return fd
        os.close(fd)
        return -1

    def _is_full(self) -> bool:
        nameless = len(self._nameless.owners)
        open_now = self._open + nameless + self.shares.taken + self.submounts.count
        return open_now >= self._ceiling

    def _close_oldest(self) -> bool:
        """Close a descriptor that was not used lately; return whether one was closed."""
        for looked_at in range(_LOOKED_AT):
            held = self._ends.after
            if not isinstance(held, Held):
                return False
            if held.unlinked and self.borrow(held) < 0:
                if self._set_aside(held):
                    return True
                continue
            needed = held in self._recent or held is self._stepped_on
            if not needed and not (held.used and looked_at < _LOOKED_AT // 2):
                self._close(held)
                return True
            held.used = False
            self._take_out(held)
            self._put_last(held)
        return False

    def _set_aside(self, held: Held) -> bool:
        """Keep the descriptor of an object that cannot be reached otherwise, in its owner's share.

        Returns whether another such object's descriptor was closed for it.
        """
        self._remember_handle(held)  # it distinguishes it from the next object with its number
        self._take_out(held)
        self._open -= 1
        lost = self._nameless.add(held, os.fstat(held.held).st_uid)
        if lost is None:
            return False
        os.close(lost.held)
        lost.held = -1
        return True

    def _close(self, held: Held) -> None:
        """Close the descriptor of an inode, which stays known."""
        held.about_to_close()
        self._remember_handle(held)
        self._shut(held)
        held.held = -1

    def _shut(self, held: Held) -> None:
        self._take_out(held)
        self._in_others.discard(held)
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
        if held.handle is None:
            held.handle = self.handles.of(held.held)


def _stale() -> OSError:
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
