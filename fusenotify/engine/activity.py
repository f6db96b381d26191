# SPDX-License-Identifier: GPL-2.0-or-later
"""The latest operations in a filesystem, watched or not.  For the report of a failed test.

A mount that remembers operations has ActivityHooks instead of Hooks.  The
server shows the operations to root and the daemon's user.

Invariants
    This is not a consumer of the core.  It changes no watch, device, count or number of an
        event, so clients cannot tell that it is there.
    Memory is bounded: the latest operations are kept, and the openers of open files.
    A call that failed is not kept: hooks are called after the system call succeeded.
"""

from __future__ import annotations

from collections import deque

from fusenotify.bits import (
    IN_ACCESS,
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_TO,
    IN_OPEN,
    IN_Q_OVERFLOW,
)
from fusenotify.credentials import Process
from fusenotify.engine.core import Core, Dentry, Inode
from fusenotify.engine.details import QueuedEvent
from fusenotify.engine.hooks import File, Hooks, attribute_mask, directory_bit
from fusenotify.events import detailed_size

# The most names and bytes of a path that are kept.  A longer path begins with "...".
_MOST_NAMES = 64
_MOST_BYTES = 4096


# Time, mask, path, path before a rename, process.  A tuple, because there are many.
Operation = tuple[int, int, bytes, bytes | None, Process | None]


class Activity:
    """The latest operations, at most a given number.  total counts all since the beginning.

    Paths are relative to the root, and ``.`` is the root itself.  A rename is one
    operation, with its old path.  Equal operations that follow each other are one,
    with the time of the first.
    """

    def __init__(self, most: int) -> None:
        self.total = 0
        self._latest: deque[Operation] = deque(maxlen=most)

    def note(
        self,
        time: int,
        mask: int,
        path: bytes,
        old_path: bytes | None,
        process: Process | None,
    ) -> None:
        """Add an operation; time is in ns since 1970."""
        latest = self._latest
        if latest:
            last = latest[-1]
            if last[2] == path and last[1] == mask and last[3] == old_path and last[4] == process:
                return
        self.total += 1
        latest.append((time, mask, path, old_path, process))

    def since(self, time: int, size: int) -> list[QueuedEvent]:
        """Return the operations since a time (ns since 1970), the latest that fit size bytes.

        Each is an event as of a detailed device, with the wd 0.  If older operations since
        then may be missing, the first event is an IN_Q_OVERFLOW that says how many.
        """
        kept = [operation for operation in self._latest if operation[0] >= time]
        lost = self.total - len(self._latest) if len(kept) == len(self._latest) else 0
        room, first = size, len(kept)
        while first and (room := room - detailed_size(*kept[first - 1][2:4])) >= 0:
            first -= 1
        lost += first
        number = self.total - len(kept) + first
        events = [
            _event(sequence, *operation)
            for sequence, operation in enumerate(kept[first:], number + 1)
        ]
        if lost and events:
            when = events[0].time
            overflow = QueuedEvent(number, when, -1, IN_Q_OVERFLOW, 0, None, False, lost=lost)
            events.insert(0, overflow)
        return events


class ActivityHooks(Hooks):
    """Hooks that also note each operation in an Activity."""

    def __init__(self, core: Core, activity: Activity) -> None:
        super().__init__(core)
        self._activity = activity
        # When a file is closed, the process that opened it may have ended already; then it
        # cannot be looked up any more.
        self._openers: dict[File, Process | None] = {}

    # Names.

    def created(self, parent: Inode, name: bytes, inode: Inode) -> Dentry:
        self._note(IN_CREATE, inode, _below(parent, name))
        return super().created(parent, name, inode)

    def linked(self, inode: Inode, parent: Inode, name: bytes) -> None:
        self._note(IN_CREATE, inode, _below(parent, name))
        super().linked(inode, parent, name)

    def unlinked(self, parent: Inode, name: bytes, inode: Inode, links: int) -> None:
        self._note(IN_DELETE, inode, _below(parent, name))
        super().unlinked(parent, name, inode, links)

    def removed_directory(self, parent: Inode, name: bytes, inode: Inode) -> None:
        self._note(IN_DELETE, inode, _below(parent, name))
        super().removed_directory(parent, name, inode)

    def renamed(
        self,
        old_parent: Inode,
        old_name: bytes,
        new_parent: Inode,
        new_name: bytes,
        inode: Inode,
        replaced: Inode | None = None,
        replaced_links: int = 0,
    ) -> None:
        old_path = _below(old_parent, old_name)
        self._note(IN_MOVED_TO, inode, _below(new_parent, new_name), old_path)
        super().renamed(old_parent, old_name, new_parent, new_name, inode, replaced, replaced_links)

    def exchanged(
        self,
        parent: Inode,
        name: bytes,
        inode: Inode,
        other_parent: Inode,
        other_name: bytes,
        other: Inode,
    ) -> None:
        one, two = _below(parent, name), _below(other_parent, other_name)
        self._note(IN_MOVED_TO, inode, two, one)
        self._note(IN_MOVED_TO, other, one, two)
        super().exchanged(parent, name, inode, other_parent, other_name, other)

    # Open files and directories.

    def opened(self, file: File) -> None:
        self._openers[file] = self._process()
        self._note_file(IN_OPEN, file)
        super().opened(file)

    def accessed(self, file: File) -> None:
        self._note_file(IN_ACCESS, file)
        super().accessed(file)

    def modified(self, file: File) -> None:
        self._note_file(IN_MODIFY, file)
        super().modified(file)

    def truncated_by_open(self, file: File, set_id_bits_lost: bool) -> None:
        self._note_file(IN_MODIFY, file)
        super().truncated_by_open(file, set_id_bits_lost)

    def closed(self, file: File) -> None:
        self._note_file(IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE, file)
        self._openers.pop(file, None)
        super().closed(file)

    # Attributes.

    def attributes_changed(
        self,
        inode: Inode,
        dentry: Dentry | None,
        *,
        atime: bool = False,
        mtime: bool = False,
        size: bool = False,
        owner_or_mode: bool = False,
    ) -> None:
        mask = attribute_mask(atime=atime, mtime=mtime, size=size, owner_or_mode=owner_or_mode)
        if mask:
            self._note(mask, inode, _path(dentry))
        super().attributes_changed(
            inode, dentry, atime=atime, mtime=mtime, size=size, owner_or_mode=owner_or_mode
        )

    def xattr_changed(self, inode: Inode) -> None:
        self._note(IN_ATTRIB, inode, _path(inode.dentry))
        super().xattr_changed(inode)

    def _process(self) -> Process | None:
        return self.core.details.process(self.core.actor)

    def _note(self, mask: int, inode: Inode, path: bytes, old_path: bytes | None = None) -> None:
        self._keep(mask, inode, path, old_path, self._process())

    def _note_file(self, mask: int, file: File) -> None:
        self._keep(mask, file.inode, _path(file.dentry), None, self._openers.get(file))

    def _keep(
        self,
        mask: int,
        inode: Inode,
        path: bytes,
        old_path: bytes | None,
        process: Process | None,
    ) -> None:
        now = self.core.details.clock()
        self._activity.note(now, mask | directory_bit(inode), path, old_path, process)


def _event(
    sequence: int,
    time: int,
    mask: int,
    path: bytes,
    old_path: bytes | None,
    process: Process | None,
) -> QueuedEvent:
    is_dir = bool(mask & IN_ISDIR)
    return QueuedEvent(sequence, time, 0, mask, 0, path, is_dir, process, old_path=old_path)


def _below(directory: Inode, name: bytes) -> bytes:
    """Return the path of a name in a directory."""
    above = _path(directory.dentry)
    return name if above == b"." else above + b"/" + name


def _path(dentry: Dentry | None) -> bytes:
    """Return the path of a name, or the end of a long path."""
    if dentry is None:
        return b"."
    names: list[bytes] = []
    length = 0
    while dentry is not None:
        if length > _MOST_BYTES or len(names) == _MOST_NAMES:
            names.append(b"...")
            break
        names.append(dentry.name)
        length += len(dentry.name) + 1
        dentry = dentry.parent.dentry
    names.reverse()
    return b"/".join(names)
