# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps that are left out, in both worlds, because FUSE hides what they do.

Each reason is a line of docs/reference/differences.md.  What a step's own form decides
is kept out by programs.drawn.  What depends on the state is decided here, by
looking at the native tree, where a look changes nothing.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Any

from tests.differential.programs import steps
from tests.differential.programs.steps import OfPath, OfSlot, Step
from tests.differential.programs.worlds import Place

_SET_ID = 0o6000
_OPEN_ATTRIBUTES = (steps.ChmodOpen, steps.ChownOpen, steps.SetTimesOpen, steps.SetXattrOpen)
_WRITES = (steps.Write, steps.WriteAt)

# A name by the inode number of its directory.
Name = tuple[int, str]


@dataclass(frozen=True)
class _Found:
    """What a path leads to: the inode's number, its links, and by which of them."""

    inode: int
    links: int
    name: Name


@dataclass
class _Names:
    """The names of a file that got a second one.

    first is the one it had before: the kernel may use it from its cache for
    longer than a program takes.  None where another was used since, so that a
    use of the first would be taken for that one's.  later are those that it
    got by link(2): they are looked up at each use.
    """

    first: Name | None
    later: set[Name] = field(default_factory=set)


class Hidden:
    """What a program did so far, as far as it decides what to leave out."""

    def __init__(self, native: Place) -> None:
        self._native = native
        # Files opened since they were last read or written.
        self._uncached: set[int] = set()
        self._linked: dict[int, _Names] = {}

    def leaves_out(self, step: Step) -> bool:
        """Return whether a step would differ, or is about an empty slot."""
        if isinstance(step, OfSlot):
            status = self._native.opened(step.by, step.slot)
            return (
                status is None
                or self._is_cached_read(step, status)
                or self._goes_by_inode(step, status)
                or _may_seem_to_write(step, status)
            )
        if isinstance(step, OfPath):
            is_cached = self._is_cached_name(step)  # and notes what is used
            return is_cached or self._opens_special_file(step) or self._seems_to_write(step)
        return False

    def note(self, step: Step, answer: Any) -> None:
        """Remember what a step did that succeeded.  answer is what it returned."""
        match step:
            case steps.Open():
                status = self._native.opened(step.by, step.slot)
                assert status is not None
                self._uncached.add(status.st_ino)
                if status.st_nlink == 1 and step.flags & os.O_EXCL:
                    self._linked.pop(status.st_ino, None)  # a new file, an old one's number
            case steps.Read() | steps.Write() | steps.WriteAt() if answer:
                status = self._native.opened(step.by, step.slot)
                assert status is not None
                self._uncached.discard(status.st_ino)
            case steps.Link():
                self._note_link(step)
            case steps.Unlink() | steps.Rename():
                try:
                    self._note_change(step)
                except OSError:  # what went was a part of the path
                    self._linked = {inode: _Names(None) for inode in self._linked}
            case steps.List() | steps.ListOpen():
                self._forget_firsts()  # every name was looked up

    # Fifos: the kernel opens them itself, and that may wait for ever.

    def _opens_special_file(self, step: OfPath) -> bool:
        try:
            mode = os.stat(self._native.at(step.path)).st_mode
        except OSError:
            return False
        return isinstance(step, steps.Open) and stat.S_ISFIFO(mode)

    # chown(2) of nothing, which the kernel says as it says a write where there are set-id bits.

    def _seems_to_write(self, step: OfPath) -> bool:
        try:
            status = os.stat(self._native.at(step.path), follow_symlinks=step.follows)
        except OSError:
            return False
        return _may_seem_to_write(step, status)

    # Repeated reads: a page is in the kernel's cache from the first read, or
    # from a write that filled it, until the file is opened again.

    def _is_cached_read(self, step: OfSlot, status: os.stat_result) -> bool:
        return isinstance(step, steps.Read) and status.st_ino not in self._uncached

    # Which of several hard links: what is done to a file's attributes through
    # a descriptor says only which inode; so does what goes before a write where
    # there are set-id bits.

    def _goes_by_inode(self, step: OfSlot, status: os.stat_result) -> bool:
        if status.st_ino not in self._linked:
            return False
        if isinstance(step, _WRITES):
            return bool(step.by == steps.OTHER and status.st_mode & _SET_ID)
        return isinstance(step, _OPEN_ATTRIBUTES)

    # And so does what is done by a name that the kernel still knows from the
    # time when the file had no other.

    def _is_cached_name(self, step: OfPath) -> bool:
        unsure = self._looks_up(step.path, step.follows)
        if isinstance(step, steps.ToName):
            self._looks_up(step.target, follow=False)
        # These two say which name.
        return unsure and not isinstance(step, steps.Unlink | steps.Rename)

    def _looks_up(self, path: str, follow: bool) -> bool:
        """Note that a path is used; return whether it may be taken for another."""
        if not self._is_plain(path, follow):
            self._forget_firsts()
        found = self._find(path, follow)
        names = self._linked.get(found.inode) if found else None
        if found is None or names is None or found.links == 1 or found.name == names.first:
            return False
        names.first = None
        return found.name not in names.later

    def _note_link(self, step: steps.Link) -> None:
        found = self._find(step.path, follow=False)
        assert found is not None
        if found.links == 2:
            # Who walks through a symbolic link uses its names, too.
            is_link = os.path.islink(self._native.at(step.path))
            self._linked[found.inode] = _Names(None if is_link else found.name)
        self._linked[found.inode].later.add(self._name(step.target))

    def _forget_firsts(self) -> None:
        for names in self._linked.values():
            names.first = None

    def _is_plain(self, path: str, follow: bool) -> bool:
        """Return whether a path leads through directories alone, and no symbolic link."""
        whole = self._native.at(path)
        directory = whole if follow and os.path.islink(whole) else os.path.dirname(whole)
        try:
            return os.path.realpath(directory, strict=True) == directory
        except OSError:
            return False

    def _note_gone(self, name: Name) -> None:
        for names in self._linked.values():
            names.later.discard(name)
            if names.first == name:
                names.first = None

    def _note_change(self, step: steps.Unlink | steps.Rename) -> None:
        name = self._name(step.path)
        moved = [names for names in self._linked.values() if name in names.later]
        self._note_gone(name)
        if isinstance(step, steps.Rename):
            target = self._name(step.target)
            self._note_gone(target)
            if not step.how:
                for names in moved:
                    names.later.add(target)
                    names.first = None

    def _find(self, path: str, follow: bool) -> _Found | None:
        whole = self._native.at(path)
        try:
            if follow:
                whole = os.path.realpath(whole, strict=True)
            status = os.lstat(whole)
            return _Found(status.st_ino, status.st_nlink, _name(whole))
        except OSError:
            return None

    def _name(self, path: str) -> Name:
        return _name(self._native.at(path))


def _may_seem_to_write(step: Step, status: os.stat_result) -> bool:
    if not isinstance(step, steps.Chown | steps.ChownOpen) or step.by != steps.OTHER:
        return False
    has_bits = stat.S_ISREG(status.st_mode) and bool(status.st_mode & _SET_ID)
    return has_bits and step.uid == step.gid == -1


def _name(whole: str) -> Name:
    directory, name = os.path.split(whole)
    return os.stat(directory).st_ino, name
