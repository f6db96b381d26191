# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks that tell a request's changes of names after the earlier changes that others made.

fs.mount uses these instead of engine.hooks' if changes behind the mount are heard.  They call
behind.listening before each change of a watched name is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from fusenotify.engine import core
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.behind.fanotify import Record
from fusenotify.fs.inodes import Inode


class Listener(Protocol):
    """Reads others' changes: behind.listening.Behind.

    disputed says that others may have changed the names between the last request's lookups and
    its change.
    """

    disputed: bool

    def catch_up(self) -> Record | None:
        """Tell others' changes that came before our own last change; return its echo."""

    def changed(self, echo: Record | None, given: core.Inode) -> core.Inode:
        """Return the object that a request changed, by its echo; a stand-in if it is gone."""

    def other_half(self, echo: Record) -> Record | None:
        """Return the second echo of an exchange, by the first."""

    def replaced(
        self, echo: Record, parent: core.Inode, name: bytes, moved: core.Inode
    ) -> core.Inode | None:
        """Return what a rename to a name replaced; a stand-in if it is not known."""

    def links(self, inode: core.Inode) -> int:
        """Return how many names a file has now; 0 for a directory or a stand-in."""

    def told(self, parent: core.Inode, name: bytes, echo: Record | None) -> None:
        """Note that a request told that the object of an echo has a name.

        Without an echo, nobody may have heard of it.
        """

    def removed(self, parent: core.Inode, name: bytes, echo: Record | None) -> None:
        """Note that a request, whose echo is given, told that a name is gone."""

    def place(self, inode: Inode) -> None:
        """Make the names on the path to an object known, which is about to be watched."""


@contextmanager
def placed(listener: Listener | None, found: AbstractContextManager[Inode]) -> Iterator[Inode]:
    """Enter found, in which the object to be watched is pinned, and make its path known."""
    with found as inode:
        if listener is not None:
            listener.place(inode)
        yield inode


class HooksInOrder(Hooks):
    """Hooks that tell a request's changes of names after the earlier changes of others.

    behind is the Listener, as soon as there is one.  telling is true while it tells others'
    changes itself.
    """

    def __init__(self, names: core.Core, *more: Any) -> None:
        super().__init__(names, *more)
        self.behind: Listener | None = None
        self.telling = False

    def created(self, parent: core.Inode, name: bytes, inode: core.Inode) -> core.Dentry:
        behind, echo = self._caught_up((inode,), parent)
        if behind is not None and echo is not None and behind.changed(echo, inode) is not inode:
            # The object is gone already.  Another one has its name; its record is still to come.
            super().made_and_gone(parent, name, echo.is_dir)
            behind.told(parent, name, echo)
            return core.Dentry(parent, name, inode)
        dentry = super().created(parent, name, inode)
        if behind is not None:
            behind.told(parent, name, echo)
        return dentry

    def made_and_gone(self, parent: core.Inode, name: bytes, is_dir: bool) -> None:
        behind, echo = self._caught_up((), parent)
        super().made_and_gone(parent, name, is_dir)
        if behind is not None:
            behind.told(parent, name, echo)

    def linked(self, inode: core.Inode, parent: core.Inode, name: bytes) -> None:
        behind, echo = self._caught_up((inode,), parent)
        super().linked(inode, parent, name)
        if behind is not None:
            behind.told(parent, name, echo)

    def unlinked(self, parent: core.Inode, name: bytes, inode: core.Inode, links: int) -> None:
        behind, echo = self._caught_up((inode,), parent)
        if behind is not None and behind.disputed:
            given, inode = inode, behind.changed(echo, inode)
            links = links if inode is given else behind.links(inode)
        super().unlinked(parent, name, inode, links)
        if behind is not None:
            behind.removed(parent, name, echo)

    def removed_directory(self, parent: core.Inode, name: bytes, inode: core.Inode) -> None:
        behind, echo = self._caught_up((inode,), parent)
        if behind is not None and echo is not None:
            inode = behind.changed(echo, inode)
        super().removed_directory(parent, name, inode)
        if behind is not None:
            behind.removed(parent, name, echo)

    def renamed(
        self,
        old_parent: core.Inode,
        old_name: bytes,
        new_parent: core.Inode,
        new_name: bytes,
        inode: core.Inode,
        replaced: core.Inode | None = None,
        replaced_links: int = 0,
    ) -> None:
        behind, echo = self._caught_up((inode, replaced), old_parent, new_parent)
        if behind is not None and echo is not None and behind.disputed:
            inode = behind.changed(echo, inode)
            given, replaced = replaced, behind.replaced(echo, new_parent, new_name, inode)
            if replaced is not None and replaced is not given:
                replaced_links = behind.links(replaced)
        super().renamed(old_parent, old_name, new_parent, new_name, inode, replaced, replaced_links)
        if behind is not None:
            behind.removed(old_parent, old_name, echo)
            behind.told(new_parent, new_name, echo)

    def exchanged(
        self,
        parent: core.Inode,
        name: bytes,
        inode: core.Inode,
        other_parent: core.Inode,
        other_name: bytes,
        other: core.Inode,
    ) -> None:
        behind, echo = self._caught_up((inode, other), parent, other_parent)
        half: Record | None = None
        if behind is not None and echo is not None:
            half = behind.other_half(echo)
            inode, other = behind.changed(echo, inode), behind.changed(half, other)
        super().exchanged(parent, name, inode, other_parent, other_name, other)
        if behind is not None:
            behind.told(parent, name, half)
            behind.told(other_parent, other_name, echo)

    def _caught_up(
        self, changed: Iterable[core.Inode | None], *parents: core.Inode
    ) -> tuple[Listener | None, Record | None]:
        """Tell others' earlier changes, if a name in one of the directories is watched.

        Returns the Listener whose told() the caller has to call, or None, and catch_up()'s echo.
        """
        behind, echo = self.behind, None
        if behind is None or self.telling:
            return None, None
        if any(self.core.hears(parent) for parent in parents):
            with held(*changed, *parents):
                echo = behind.catch_up()
        return behind, echo


@contextmanager
def held(*inodes: core.Inode | None) -> Iterator[None]:
    """Keep objects known while the block tells others' changes; its end drops none of them."""
    known = [inode for inode in inodes if isinstance(inode, Inode)]
    for inode in known:
        inode.pins += 1
    try:
        yield
    finally:
        for inode in known:
            inode.pins -= 1


@contextmanager
def telling(hooks: Hooks) -> Iterator[None]:
    """Let hooks tell what others did: nothing has to be told before it."""
    if not isinstance(hooks, HooksInOrder) or hooks.telling:
        yield
        return
    hooks.telling = True
    try:
        yield
    finally:
        hooks.telling = False
