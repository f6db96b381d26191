# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks that tell a request's changes of names after the earlier changes that others made.

fs.mount uses these instead of engine.hooks' if changes behind the mount are heard.  They call
fs.behind before each change of a watched name is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from fusenotify.bits import IN_DELETE, IN_ISDIR
from fusenotify.engine import core
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.fanotify import Record
from fusenotify.fs.inodes import Inode


class Listener(Protocol):
    """Reads others' changes: fs.behind.Behind."""

    def catch_up(self, name: bytes, other: bytes) -> Record | None:
        """Tell others' changes before our own change of a name, or of two; return its echo."""

    def changed(self, echo: Record | None, given: core.Inode) -> core.Inode | None:
        """Return the object that a request changed, by its echo; None if the object is gone."""

    def came_back(self, echo: Record | None, given: core.Inode) -> core.Inode:
        """Return the other object of an exchange, by the echo of the first."""

    def told(self, parent: core.Inode, name: bytes, inode: core.Inode | None) -> None:
        """Note what a request told about a name: the object that has it now, or None."""

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
        behind, echo = self._caught_up((inode,), parent, name)
        if behind is not None and behind.changed(echo, inode) is not inode:
            # The object is gone already.  Another one has its name; its record is still to come.
            super().made_and_gone(parent, name, inode.is_dir)
            behind.told(parent, name, None)
            return core.Dentry(parent, name, inode)
        dentry = super().created(parent, name, inode)
        if behind is not None:
            behind.told(parent, name, inode)
        return dentry

    def made_and_gone(self, parent: core.Inode, name: bytes, is_dir: bool) -> None:
        behind, _ = self._caught_up((), parent, name)
        super().made_and_gone(parent, name, is_dir)
        if behind is not None:
            behind.told(parent, name, None)

    def linked(self, inode: core.Inode, parent: core.Inode, name: bytes) -> None:
        behind, _ = self._caught_up((inode,), parent, name)
        super().linked(inode, parent, name)
        if behind is not None:
            behind.told(parent, name, inode)

    def unlinked(self, parent: core.Inode, name: bytes, inode: core.Inode, links: int) -> None:
        behind, echo = self._caught_up((inode,), parent, name)
        if behind is None or behind.changed(echo, inode) is inode:
            super().unlinked(parent, name, inode, links)
        else:
            self.happened_to_name(parent, name, IN_DELETE)
        if behind is not None:
            behind.told(parent, name, None)

    def removed_directory(self, parent: core.Inode, name: bytes, inode: core.Inode) -> None:
        behind, echo = self._caught_up((inode,), parent, name)
        if behind is None or behind.changed(echo, inode) is inode:
            super().removed_directory(parent, name, inode)
        else:
            self.happened_to_name(parent, name, IN_DELETE | IN_ISDIR)
        if behind is not None:
            behind.told(parent, name, None)

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
        behind, echo = self._caught_up(
            (inode, replaced), old_parent, old_name, new_parent, new_name
        )
        if behind is not None and echo is not None:
            inode = behind.changed(echo, inode) or inode
            known = new_parent.children.get(new_name) if new_parent.children else None
            if known is not None and known.inode is not inode:
                replaced = known.inode
        super().renamed(old_parent, old_name, new_parent, new_name, inode, replaced, replaced_links)
        if behind is not None:
            behind.told(old_parent, old_name, None)
            behind.told(new_parent, new_name, inode)

    def exchanged(
        self,
        parent: core.Inode,
        name: bytes,
        inode: core.Inode,
        other_parent: core.Inode,
        other_name: bytes,
        other: core.Inode,
    ) -> None:
        behind, echo = self._caught_up((inode, other), parent, name, other_parent, other_name)
        if behind is not None and echo is not None:
            inode = behind.changed(echo, inode) or inode
            other = behind.came_back(echo, other)
        super().exchanged(parent, name, inode, other_parent, other_name, other)
        if behind is not None:
            behind.told(parent, name, other)
            behind.told(other_parent, other_name, inode)

    def _caught_up(
        self,
        changed: Iterable[core.Inode | None],
        parent: core.Inode,
        name: bytes,
        other_parent: core.Inode | None = None,
        other_name: bytes = b"",
    ) -> tuple[Listener | None, Record | None]:
        """Tell others' earlier changes, if one of the names is watched.

        Returns the Listener whose told() the caller has to call, or None, and catch_up()'s echo.
        """
        behind, echo = self.behind, None
        if behind is None or self.telling:
            return None, None
        hears = self.core.hears
        if hears(parent) or (other_parent is not None and hears(other_parent)):
            with held(*changed):
                echo = behind.catch_up(name, other_name or name)
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
    in_order = hooks if isinstance(hooks, HooksInOrder) else None
    if in_order is not None:
        in_order.telling = True
    try:
        yield
    finally:
        if in_order is not None:
            in_order.telling = False
