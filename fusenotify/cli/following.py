# SPDX-License-Identifier: GPL-2.0-or-later
"""The watches of ``fusenotify wait``, kept complete while the tree changes.

cli.wait says what to watch and prints what is told; cli.watched knows the
paths.  Records say what happened in the past, and a path is looked up in the
present, so two rules keep them together:

- A watch that is there is moved by records alone.  Who moved is told by
  IN_MOVE_SELF, which comes with IN_MOVED_FROM and IN_MOVED_TO in one piece;
  names do not tell it (in an exchange a name stands for two directories).
- A watch that is made by path is believed only where no record that waits to
  be told says that a directory on its path moved or went.  Else it is looked
  for again when these records have been told.

After an overflow nothing is believed, and the whole tree is looked for again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fusenotify.cli.watched import WatchedTree
from fusenotify.client import Inotify
from fusenotify.client.events import InotifyEvent
from fusenotify.masks import (
    IN_ACCESS,
    IN_CLOSE_NOWRITE,
    IN_CREATE,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_ISDIR,
    IN_MOVE,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_OPEN,
    IN_Q_OVERFLOW,
)
from fusenotify.mounting.failure import Failure
from fusenotify.protocol.connection import ConnectionLost

# What keeps a recursive watch complete, whether or not it is printed.
_TREE_CHANGES = IN_CREATE | IN_MOVE | IN_MOVE_SELF
# What listing a directory does not cause.
_QUIET = ~(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE)
# So many directories are listed or looked for before records are read again.
_AT_ONCE = 64
# So many reads, of some thousand records each, are enough to know what was queued.
_READS_AT_ONCE = 64
# What is not there: gone again, or replaced, before we came.
_GONE = (errno.ENOENT, errno.ENOTDIR)
# Where one directory cannot be watched for these, the others still can.
_OF_ONE_DIRECTORY = (errno.EACCES, errno.ELOOP, errno.EXDEV)


class Told(NamedTuple):
    """A record, with the path that its watch had when it happened."""

    path: bytes
    mask: int
    cookie: int
    name: bytes | None


class _Task(NamedTuple):
    """A directory to be listed, or a name in it to be looked for."""

    wd: int
    name: bytes | None


class _Outcome(NamedTuple):
    """What came of a task: names, a watch, or an error; ancestry is what its path rested on."""

    task: _Task
    path: bytes
    ancestry: set[int]
    names: Sequence[bytes] = ()
    wd: int | None = None
    error: OSError | None = None


class _Move(NamedTuple):
    """What IN_MOVED_FROM and IN_MOVED_TO said: directories' watches and names."""

    cookie: int
    source: tuple[int, bytes] | None
    target: tuple[int, bytes] | None


class Follower:
    """What is watched, with all directories below where recursive.

    mask is what to hear of; complain says what the user must know, as text.
    """

    def __init__(
        self, inotify: Inotify, mask: int, recursive: bool, complain: Callable[[str], None]
    ) -> None:
        self._inotify = inotify
        self._recursive = recursive
        self._complain = complain
        self._mask = mask | (_TREE_CHANGES if recursive else 0)
        self._established = False
        self._tree = WatchedTree()
        self._pending: list[InotifyEvent] = []  # read, and not told yet
        self._told: list[Told] = []
        self._tasks: deque[_Task] = deque()
        self._quiet: deque[int] = deque()  # watched without what our listing causes
        self._move: _Move | None = None
        self._unreachable: set[int] = set()  # roots whose path is no longer theirs

    def __len__(self) -> int:
        return len(self._tree)

    def add(self, path: bytes) -> None:
        """Watch what the user named.

        Raises Failure where it cannot be watched.
        """
        is_directory = os.path.isdir(path)
        if is_directory:
            path = path.rstrip(b"/") + b"/"
        recursive = is_directory and self._recursive
        mask = self._mask & _QUIET if recursive else self._mask
        try:
            wd = self._inotify.add_watch(_bare(path), mask)
        except OSError as error:
            raise cannot_watch(path, error) from error
        self._tree.add_root(wd, path)
        if recursive:
            self._quiet.append(wd)
            self._tasks.append(_Task(wd, None))

    def establish(self) -> None:
        """Find all directories below what was added.

        Raises Failure where one cannot be watched, except for a reason of its
        own, as that it may not be read: that is complained of.
        """
        while self._tasks:
            self._step()
        if self._mask & _QUIET == self._mask:
            self._quiet.clear()
        self._established = True
        self._inotify.sync()  # our own listing is over
        while self._quiet:
            self._hear_more()
            self._step()

    def read(self, timeout: float | None) -> list[Told] | None:
        """Return what happened, which may be nothing to tell; None where the time passed.

        Raises ConnectionLost.
        """
        if not (self._pending or self._told or self._tasks or self._tree.strays()):
            self._pending += self._inotify.read(timeout=timeout)
            if not self._pending:
                return None
        self._step()
        told, self._told = self._told, []
        return told

    def _step(self) -> None:
        """Tell what is read, and do something for the tree."""
        pending, self._pending = self._pending, []
        for event in pending:
            self._follow(event)
        if not self._look() and self._tree.strays():
            self._remove_strays()

    # What happened.

    def _follow(self, event: InotifyEvent) -> None:
        if event.mask & IN_Q_OVERFLOW:
            self._complain("Events were lost: they came faster than they were read.")
            self._look_everywhere()
            return
        if event.mask & IN_MOVE_SELF:
            self._moved(event.wd)
        path = self._tree.path(event.wd)
        if path is not None:
            self._told.append(Told(path, event.mask, event.cookie, event.name))
        if event.mask & IN_IGNORED:
            self._tree.forget(event.wd)
            self._unreachable.discard(event.wd)
        elif event.name and self._recursive:
            self._remember_move(event, event.name)
            if event.mask & IN_ISDIR and event.mask & (IN_CREATE | IN_MOVED_TO):
                self._tasks.append(_Task(event.wd, event.name))

    def _remember_move(self, event: InotifyEvent, name: bytes) -> None:
        """Keep from where and to where something moves until IN_MOVE_SELF says what."""
        place = (event.wd, name)
        if event.mask & IN_MOVED_FROM:
            self._move = _Move(event.cookie, place, None)
        elif event.mask & IN_MOVED_TO:
            before = self._move
            source = before.source if before and before.cookie == event.cookie else None
            self._move = _Move(event.cookie, source, place)
        else:
            self._move = None

    def _moved(self, wd: int) -> None:
        move, self._move = self._move, None
        if self._tree.is_root(wd):
            self._lose(wd, "was moved")
        elif (
            move is not None
            and move.source is not None
            and not self._tree.moved(wd, move.source, move.target)
        ):
            self._look_everywhere()

    def _lose(self, root: int, why: str) -> None:
        """Say, once, that new directories below a root cannot be found by its path."""
        if self._recursive and root not in self._unreachable:
            self._unreachable.add(root)
            path = os.fsdecode(self._tree.path(root) or b"")
            self._complain(f"{path} {why}: directories that come into it are not watched.")

    # What there is.

    def _look_everywhere(self) -> None:
        if self._recursive:
            self._tree.scatter()
            self._tasks.clear()
            self._tasks.extend(_Task(root, None) for root in self._tree.roots())

    def _look(self) -> bool:
        """Do some tasks, and believe what they found where no record speaks against it.

        Returns False where there was none that could be done.
        """
        outcomes = []
        for _ in range(len(self._tasks)):
            task = self._tasks.popleft()
            path, ancestry = self._tree.path(task.wd), self._tree.ancestry(task.wd)
            if path is not None and not ancestry & self._unreachable:
                outcomes.append(self._tried(task, path, ancestry))
                if len(outcomes) == _AT_ONCE:
                    break
            elif path is None and task.wd in self._tree:
                self._tasks.append(task)  # its directory is a stray, which is found or removed
        if not outcomes:
            return False
        gone = self._gone_meanwhile()
        for outcome in outcomes:
            task = outcome.task
            doubtful = gone is None or not gone.isdisjoint(outcome.ancestry)
            if outcome.wd is not None and task.name is not None:
                self._place(outcome.wd, task.wd, task.name, doubtful, gone or set())
            if doubtful:
                self._tasks.append(task)
            elif outcome.error is not None:
                self._failed(outcome.path, outcome.error)
            else:
                self._tasks.extend(_Task(task.wd, name) for name in outcome.names)
        return True

    def _tried(self, task: _Task, directory: bytes, ancestry: set[int]) -> _Outcome:
        path = directory if task.name is None else directory + task.name + b"/"
        try:
            if task.name is None:
                with os.scandir(directory) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
                return _Outcome(task, path, ancestry, names=names)
            return _Outcome(task, path, ancestry, wd=self._watch(path))
        except ConnectionLost:
            raise
        except OSError as error:
            return _Outcome(task, path, ancestry, error=error)

    def _watch(self, path: bytes) -> int:
        mask = self._mask if self._established else self._mask & _QUIET
        return self._inotify.add_watch(_bare(path), mask | IN_ONLYDIR | IN_DONT_FOLLOW)

    def _place(self, wd: int, above: int, name: bytes, doubtful: bool, moved: set[int]) -> None:
        """Say that a watch was made by a path, which may have led elsewhere."""
        is_new = wd not in self._tree
        if is_new and not self._established:
            self._quiet.append(wd)
        if is_new and doubtful:
            self._tree.detach(wd)  # until it is found where it is
        elif is_new or not (
            doubtful
            or wd in moved  # the record says from where to where
            or self._tree.is_root(wd)
            or self._tree.is_at(wd, above, name)
        ):
            if self._tree.attach(wd, above, name):
                self._tasks.append(_Task(wd, None))
            else:
                self._look_everywhere()

    def _failed(self, path: bytes, error: OSError) -> None:
        """Say what cannot be watched, before all is watched by failing."""
        if error.errno in _GONE:
            for root in self._tree.roots():
                given = self._tree.path(root) or b""
                if path.startswith(given) and not os.path.lexists(given):
                    self._lose(root, "is not found any more")
        elif self._established or error.errno in _OF_ONE_DIRECTORY:
            self._complain(f"Couldn't watch {os.fsdecode(path)}: {error.strerror}")
        else:
            raise cannot_watch(path, error) from error

    def _hear_more(self) -> None:
        """Let some watches hear what listing their directories would have caused."""
        tried = []
        for _ in range(min(_AT_ONCE, len(self._quiet))):
            wd = self._quiet.popleft()
            path = self._tree.path(wd)
            if path is not None:
                tried.append((wd, self._tree.ancestry(wd), self._heard(wd, path)))
            elif wd in self._tree:
                self._quiet.append(wd)  # a stray, which is found or removed
        gone = self._gone_meanwhile()
        for wd, ancestry, found in tried:
            if found is not None and found not in self._tree:
                self._tree.detach(found)
            if found != wd and (gone is None or not gone.isdisjoint(ancestry)):
                self._quiet.append(wd)

    def _heard(self, wd: int, path: bytes) -> int | None:
        flags = 0 if self._tree.is_root(wd) else IN_ONLYDIR | IN_DONT_FOLLOW
        try:
            return self._inotify.add_watch(_bare(path), self._mask | flags)
        except ConnectionLost:
            raise
        except OSError:
            return None  # it went, or moved, which a record says

    def _remove_strays(self) -> None:
        """Remove the watches on what left the tree."""
        strays = self._tree.strays()
        moving = self._gone_meanwhile()
        if moving is None:
            return
        for stray in strays:
            if stray in moving:
                continue  # as the second half of an exchange
            for wd in self._tree.subtree(stray):
                self._tree.forget(wd)
                # It may have been deleted since; a lost connection shows at the next read.
                with contextlib.suppress(OSError):
                    self._inotify.rm_watch(wd)

    def _gone_meanwhile(self) -> set[int] | None:
        """Read what is queued; return the watches that moved or went, None where nobody knows."""
        for _ in range(_READS_AT_ONCE):
            events = self._inotify.read(timeout=0.0)
            if not events:
                break
            self._pending += events
        else:
            return None
        if any(event.mask & IN_Q_OVERFLOW for event in self._pending):
            return None
        return {event.wd for event in self._pending if event.mask & (IN_MOVE_SELF | IN_IGNORED)}


def cannot_watch(path: bytes, error: OSError) -> Failure:
    """Return the failure that ends the command."""
    return Failure(f"{os.fsdecode(path)}: cannot be watched: {error.strerror}")


def _bare(path: bytes) -> bytes:
    """Return a path without the slash behind, which would make a link followed."""
    return path.rstrip(b"/") or path[:1]
