# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree watch says what ordinary watches on all its directories say, whatever happens.

The tests add an ordinary watch when a directory comes to be in the tree, and
remove it when it leaves, before anything else happens: what a program cannot do.
"""

from __future__ import annotations

import contextlib
import random

import pytest

from fusenotify.bits import IN_ALL_EVENTS, IN_EXCL_UNLINK, IN_IGNORED, IN_MOVE_SELF
from fusenotify.engine.inodes import DEAD, Dentry, Inode
from fusenotify.engine.policy import semantics
from fusenotify.events import Event, unpack
from fusenotify.testing import EngineTree
from fusenotify.testing.tree import OpenFile

TOP = "top"
CALLS = 1000
NAMES = ["a", "b", "c"]


def way_to(top: Inode, directory: Inode) -> list[Dentry] | None:
    """Return the dentries from top down to a directory, or None where it is not below."""
    way: list[Dentry] = []
    while directory is not top:
        dentry = directory.dentry
        if dentry is None:
            return None
        way.append(dentry)
        directory = dentry.parent
    return way[::-1]


def path_to(top: Inode, directory: Inode) -> bytes:
    return b"".join(dentry.name + b"/" for dentry in way_to(top, directory) or ())


class OrdinaryWatches:
    """A device with a watch on each directory of a tree, as if each had always stood."""

    def __init__(self, engine: EngineTree, mask: int, policy: str) -> None:
        self._device = engine.table.init(0, policy=semantics(policy))
        self._top = engine.inode(TOP)
        self._mask = mask
        self._watched: dict[int, Inode] = {}
        self._ever: dict[Inode, None] = {}
        self.catch_up()

    def catch_up(self) -> None:
        """Watch what came in, and no more what went out."""
        for wd, directory in list(self._watched.items()):
            if way_to(self._top, directory) is None:
                self._device.rm_watch(wd)
                del self._watched[wd]
        known = set(self._watched.values())
        # Removed directories that are open still come back with the one they were in.
        removed = [one for one in self._ever if one.unlinked and one.unlinked != DEAD]
        below = [self._top] + [one for one in removed if way_to(self._top, one) is not None]
        while below:
            directory = below.pop()
            if directory not in known:
                self._watched[self._device.add_watch(directory, self._mask)] = directory
                self._ever[directory] = None
            below += [d.inode for d in (directory.children or {}).values() if d.inode.is_dir]
        self._records()

    def said(self) -> list[tuple[int, bytes | None]]:
        """Return the masks and the paths of what was said since the last time."""
        said: list[tuple[int, bytes | None]] = []
        for wd, mask, _, name in self._records():
            directory = self._watched[wd]
            if mask & IN_IGNORED:
                del self._watched[wd]
                if directory is not self._top:
                    continue
            elif mask & IN_MOVE_SELF and way_to(self._top, directory) is None:
                continue  # it went out
            path = path_to(self._top, directory)
            said.append((mask, path + name if name is not None else path or None))
        self.catch_up()
        return said

    def _records(self) -> list[Event]:
        return [*unpack(self._device.read(1 << 20))] if self._device.queued() else []


class Program:
    """Random calls in and beside a tree."""

    def __init__(self, engine: EngineTree, seed: int) -> None:
        self._engine = engine
        self._chosen = random.Random(seed)
        self._open: list[OpenFile] = []

    def call(self) -> str:
        """Do something; return what."""
        engine, one, other = self._engine, self._path(), self._path()
        match self._chosen.randrange(14):
            case 0 | 1 | 2:
                engine.mkdir(one)
                return f"mkdir {one}"
            case 3 | 4:
                engine.create(one)
                return f"create {one}"
            case 5:
                engine.unlink(one)
                return f"unlink {one}"
            case 6:
                engine.rmdir(one)
                return f"rmdir {one}"
            case 7 | 8:
                engine.rename(one, other)
                return f"rename {one} {other}"
            case 9:
                engine.exchange(one, other)
                return f"exchange {one} {other}"
            case 10:
                engine.link(one, other)
                return f"link {one} {other}"
            case 11:
                if len(self._open) > 5:
                    self._open.pop(0).close()
                    return "close"
                self._open.append(engine.open(one))
                return f"open {one}"
            case 12:
                engine.chmod(one)
                return f"chmod {one}"
            case _:
                if not self._open:
                    return ""
                self._chosen.choice(self._open).read()
                return "read"

    def _path(self) -> str:
        names = self._chosen.choices(NAMES, k=self._chosen.randint(1, 4))
        return "/".join([self._chosen.choice([TOP, TOP, "beside"]), *names])


@pytest.mark.parametrize("policy", ["linux-6", "linux-2.6.18"])
@pytest.mark.parametrize("seed", range(40))
def test_a_tree_watch_has_the_events_of_watches_everywhere(seed: int, policy: str) -> None:
    chosen = random.Random(seed)
    mask = chosen.choice([IN_ALL_EVENTS, IN_ALL_EVENTS, chosen.randint(1, IN_ALL_EVENTS)])
    if policy == "linux-6" and chosen.random() < 0.3:
        mask |= IN_EXCL_UNLINK
    engine = EngineTree()
    engine.prepare(f"{TOP}/a/b/c/", "beside/a/b/")
    tree = engine.table.init(0, policy=semantics(policy))
    tree.add_watch(engine.inode(TOP), mask, tree=True)
    everywhere = OrdinaryWatches(engine, mask, policy)
    program = Program(engine, seed)
    done: list[str] = []
    for _ in range(CALLS):
        with contextlib.suppress(OSError):
            done.append(program.call())
        records = unpack(tree.read(1 << 20)) if tree.queued() else ()
        said = [(mask, name) for _, mask, _, name in records]
        assert said == everywhere.said(), done[-5:]
