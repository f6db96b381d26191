# SPDX-License-Identifier: GPL-2.0-or-later
"""Which path each watch of ``fusenotify wait`` stands for, through renames.

A record says only the watch and a name.  This table keeps, for each watch,
the directory above it and its name there, so a rename changes one entry and a
path is put together when it is asked for.  cli.following says what happened.

Invariants
    A directory's path ends in a slash, a file's does not.
    A root, which the user named, keeps the path that the user gave.
    Any other watch has a path only while it hangs below a root by names that
        are current; else it, or a directory above it, is among the strays.
    Nothing here recurs: a tree may be deeper than Python's stack.
"""

from __future__ import annotations

from collections.abc import Iterator


class _Node:
    """A watch: a root's path, or the directory above and the name in it."""

    __slots__ = ("above", "below", "name", "path", "wd")

    def __init__(self, wd: int) -> None:
        self.wd = wd
        self.path: bytes | None = None
        self.above: _Node | None = None
        self.name = b""
        self.below: dict[bytes, _Node] = {}

    @property
    def is_attached(self) -> bool:
        return self.above is not None and self.above.below.get(self.name) is self


class WatchedTree:
    """Watches by descriptor, and how they hang together."""

    def __init__(self) -> None:
        self._nodes: dict[int, _Node] = {}
        self._strays: dict[int, _Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, wd: int) -> bool:
        return wd in self._nodes

    def __iter__(self) -> Iterator[int]:
        return iter(self._nodes)

    def add_root(self, wd: int, path: bytes) -> None:
        """Say that wd watches what the user named path; the latest name counts."""
        node = self._node(wd)
        self._detach(node)
        self._strays.pop(wd, None)
        node.above, node.path = None, path

    def is_root(self, wd: int) -> bool:
        """Return whether the user named what wd watches."""
        node = self._nodes.get(wd)
        return node is not None and node.path is not None

    def roots(self) -> list[int]:
        """Return the watches that the user named."""
        return [node.wd for node in self._nodes.values() if node.path is not None]

    def attach(self, wd: int, above: int, name: bytes) -> bool:
        """Say that wd, known or new, watches the directory of this name in above.

        What had the name before becomes a stray.  above is known, wd no root.
        Returns False, and changes nothing, where above is thought to lie below
        wd: then something moved that nobody told.
        """
        if wd in self.ancestry(above):
            return False
        node = self._node(wd)
        self._detach(node)
        directory = self._nodes[above]
        displaced = directory.below.get(name)
        if displaced is not None:
            self._strays[displaced.wd] = displaced  # which keeps its place: see moved()
        directory.below[name] = node
        node.above, node.name = directory, name
        self._strays.pop(wd, None)
        return True

    def detach(self, wd: int) -> None:
        """Say that wd, known or new, watches something that is not in the tree."""
        node = self._node(wd)
        if node.path is None:
            self._detach(node)
            node.above = None
            self._strays[wd] = node

    def moved(self, wd: int, source: tuple[int, bytes], target: tuple[int, bytes] | None) -> bool:
        """Say that wd moved from source, a directory's watch and a name, to target.

        No target is a place that is not watched.  A watch that was not at
        source moved elsewhere, before it was found where it is.  One that was
        displaced counts as still there: in an exchange its own move follows.
        Returns what attach() does.
        """
        node = self._nodes.get(wd)
        if node is None or node.above is None or (node.above.wd, node.name) != source:
            return True
        if target is None or target[0] not in self._nodes:
            self.detach(wd)
            return True
        return self.attach(wd, *target)

    def forget(self, wd: int) -> None:
        """Say that wd is gone; what is below becomes stray."""
        node = self._nodes.pop(wd, None)
        if node is None:
            return
        self._detach(node)
        self._strays.pop(wd, None)
        for child in node.below.values():
            child.above = None
            self._strays[child.wd] = child
        node.below.clear()

    def scatter(self) -> None:
        """Say that nothing is known any more about where watches are, roots excepted."""
        for node in self._nodes.values():
            node.below.clear()
            node.above = None
        self._strays = {wd: node for wd, node in self._nodes.items() if node.path is None}

    def strays(self) -> list[int]:
        """Return the watches that hang below nothing, and are no roots."""
        return list(self._strays)

    def subtree(self, wd: int) -> list[int]:
        """Return wd and all watches below it."""
        found = [self._nodes[wd]]
        for node in found:  # which grows
            found += node.below.values()
        return [node.wd for node in found]

    def is_at(self, wd: int, above: int, name: bytes) -> bool:
        """Return whether wd watches what has this name in above."""
        node = self._nodes.get(wd)
        return node is not None and self._nodes[above].below.get(name) is node

    def path(self, wd: int) -> bytes | None:
        """Return the path of a watch, or None for one that is not in the tree."""
        nodes = self._way_up(wd)
        if not nodes or (root := nodes[-1].path) is None:
            return None
        return root + b"".join(node.name + b"/" for node in reversed(nodes[:-1]))

    def ancestry(self, wd: int) -> set[int]:
        """Return wd and the watches on all directories above it: its path holds while they stay."""
        return {node.wd for node in self._way_up(wd)}

    def _way_up(self, wd: int) -> list[_Node]:
        """Return the nodes from wd up to its root, or to where the way ends."""
        node = self._nodes.get(wd)
        nodes = []
        while node is not None:
            nodes.append(node)
            node = node.above if node.is_attached else None
        return nodes

    def _node(self, wd: int) -> _Node:
        node = self._nodes.get(wd)
        if node is None:
            node = self._nodes[wd] = _Node(wd)
        return node

    def _detach(self, node: _Node) -> None:
        if node.is_attached:
            assert node.above is not None
            del node.above.below[node.name]
