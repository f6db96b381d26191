# SPDX-License-Identifier: GPL-2.0-or-later
"""The hooks: which records an operation gives, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fusenotify.bits import IN_DELETE_SELF, IN_IGNORED
from fusenotify.engine import hooks as hooks_module
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.hooks import File, Hooks
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_6
from fusenotify.events import unpack
from fusenotify.testing import EngineTree, assert_events


@dataclass(frozen=True)
class Someone:
    """Who acts."""

    uid: int
    pid: int = 1
    gid: int = 1000


class Tree:
    """A directory d with files a and b and a directory s in it, all watched."""

    def __init__(self, engine: EngineTree) -> None:
        engine.prepare("d/a", "d/b", "d/s/")
        self.hooks = engine.hooks
        self.device = engine.device()
        for path in ("d", "d/a", "d/b", "d/s"):
            self.device.watch(path)
        self.d, self.a, self.b, self.s = map(engine.inode, ("d", "d/a", "d/b", "d/s"))

    def opened(self, inode: Inode, writable: bool = False) -> File:
        file = File(inode, writable)
        self.hooks.opened(file)
        return file


@pytest.fixture
def tree(fusenotify_engine: EngineTree) -> Tree:
    return Tree(fusenotify_engine)


def rename_a_over_b(tree: Tree) -> None:
    tree.hooks.renamed(tree.d, b"a", tree.d, b"b", tree.a, tree.b)


def rename_a_over_b_while_open(tree: Tree) -> None:
    file = tree.opened(tree.b)
    rename_a_over_b(tree)
    tree.hooks.closed(file)


def unlink_while_open(tree: Tree) -> None:
    file = tree.opened(tree.a, writable=True)
    tree.hooks.unlinked(tree.d, b"a", tree.a, links=0)
    tree.hooks.modified(file)
    tree.hooks.closed(file)


def rmdir_while_open(tree: Tree) -> None:
    file = tree.opened(tree.s)
    tree.hooks.removed_directory(tree.d, b"s", tree.s)
    tree.hooks.closed(file)


def write_after_rename(tree: Tree) -> None:
    file = tree.opened(tree.a)
    tree.hooks.renamed(tree.d, b"a", tree.d, b"new", tree.a)
    tree.hooks.modified(file)


def truncate_by_open(tree: Tree) -> None:
    tree.hooks.truncated_by_open(tree.opened(tree.a), set_id_bits_lost=True)


CALLS: list[tuple[str, Callable[[Tree], object], list[str]]] = [
    (
        "create",
        lambda tree: tree.hooks.created(tree.d, b"new", Inode(False)),
        ["d: CREATE new"],
    ),
    (
        "mkdir",
        lambda tree: tree.hooks.created(tree.d, b"new", Inode(True)),
        ["d: CREATE|ISDIR new"],
    ),
    ("open", lambda tree: tree.opened(tree.a), ["d: OPEN a", "d/a: OPEN"]),
    ("opendir", lambda tree: tree.opened(tree.s), ["d: OPEN|ISDIR s", "d/s: OPEN|ISDIR"]),
    (
        "link",
        lambda tree: tree.hooks.linked(tree.a, tree.s, b"a2"),
        ["d/a: ATTRIB", "d/s: CREATE a2"],
    ),
    (
        "unlink",
        lambda tree: tree.hooks.unlinked(tree.d, b"a", tree.a, links=0),
        ["d/a: ATTRIB", "d/a: DELETE_SELF", "d/a: IGNORED", "d: DELETE a"],
    ),
    (
        "unlink, another link left",
        lambda tree: tree.hooks.unlinked(tree.d, b"a", tree.a, links=1),
        ["d/a: ATTRIB", "d: DELETE a"],
    ),
    (
        "unlink while open",
        unlink_while_open,
        [
            "d: OPEN a",
            "d/a: OPEN",
            "d/a: ATTRIB",
            "d: DELETE a",
            "d: MODIFY a",
            "d/a: MODIFY",
            "d: CLOSE_WRITE a",
            "d/a: CLOSE_WRITE",
            "d/a: DELETE_SELF",
            "d/a: IGNORED",
        ],
    ),
    (
        "rmdir",
        lambda tree: tree.hooks.removed_directory(tree.d, b"s", tree.s),
        ["d/s: DELETE_SELF", "d/s: IGNORED", "d: DELETE|ISDIR s"],
    ),
    (
        "rmdir while open",
        rmdir_while_open,
        [
            "d: OPEN|ISDIR s",
            "d/s: OPEN|ISDIR",
            "d: DELETE|ISDIR s",
            "d: CLOSE_NOWRITE|ISDIR s",
            "d/s: CLOSE_NOWRITE|ISDIR",
            "d/s: DELETE_SELF",
            "d/s: IGNORED",
        ],
    ),
    (
        "rename",
        lambda tree: tree.hooks.renamed(tree.d, b"a", tree.s, b"x", tree.a),
        ["d: MOVED_FROM a", "d/s: MOVED_TO x", "d/a: MOVE_SELF"],
    ),
    (
        "rename over another",
        rename_a_over_b,
        [
            "d: MOVED_FROM a",
            "d: MOVED_TO b",
            "d/b: ATTRIB",
            "d/a: MOVE_SELF",
            "d/b: DELETE_SELF",
            "d/b: IGNORED",
        ],
    ),
    (
        "rename over an open one",
        rename_a_over_b_while_open,
        [
            "d: OPEN b",
            "d/b: OPEN",
            "d: MOVED_FROM a",
            "d: MOVED_TO b",
            "d/b: ATTRIB",
            "d/a: MOVE_SELF",
            "d: CLOSE_NOWRITE b",
            "d/b: CLOSE_NOWRITE",
            "d/b: DELETE_SELF",
            "d/b: IGNORED",
        ],
    ),
    (
        "rename a directory",
        lambda tree: tree.hooks.renamed(tree.d, b"s", tree.d, b"x", tree.s),
        ["d: MOVED_FROM|ISDIR s", "d: MOVED_TO|ISDIR x", "d/s: MOVE_SELF"],
    ),
    (
        "exchange",
        lambda tree: tree.hooks.exchanged(tree.d, b"a", tree.a, tree.d, b"b", tree.b),
        [
            "d: MOVED_FROM a",
            "d: MOVED_TO b",
            "d/a: MOVE_SELF",
            "d: MOVED_FROM b",
            "d: MOVED_TO a",
            "d/b: MOVE_SELF",
        ],
    ),
    (
        "write after a rename",
        write_after_rename,
        [
            "d: OPEN a",
            "d/a: OPEN",
            "d: MOVED_FROM a",
            "d: MOVED_TO new",
            "d/a: MOVE_SELF",
            "d: MODIFY new",
            "d/a: MODIFY",
        ],
    ),
    (
        "open with O_TRUNC, set-id bits lost",
        truncate_by_open,
        ["d: OPEN a", "d/a: OPEN", "d: MODIFY|ATTRIB a", "d/a: MODIFY|ATTRIB"],
    ),
    (
        "chmod and truncate in one",
        lambda tree: tree.hooks.attributes_changed(
            tree.a, tree.a.dentry, size=True, owner_or_mode=True
        ),
        ["d: MODIFY|ATTRIB a", "d/a: MODIFY|ATTRIB"],
    ),
    (
        "utimensat, atime only",
        lambda tree: tree.hooks.attributes_changed(tree.a, tree.a.dentry, atime=True),
        ["d: ACCESS a", "d/a: ACCESS"],
    ),
    (
        "utimensat, mtime only",
        lambda tree: tree.hooks.attributes_changed(tree.a, tree.a.dentry, mtime=True),
        ["d: MODIFY a", "d/a: MODIFY"],
    ),
    (
        "utimensat, both",
        lambda tree: tree.hooks.attributes_changed(tree.s, tree.s.dentry, atime=True, mtime=True),
        ["d: ATTRIB|ISDIR s", "d/s: ATTRIB|ISDIR"],
    ),
    (
        "utimensat, neither",
        lambda tree: tree.hooks.attributes_changed(tree.a, tree.a.dentry),
        [],
    ),
    (
        "setxattr on the root",
        lambda tree: tree.hooks.xattr_changed(tree.d),
        ["d: ATTRIB|ISDIR"],
    ),
    (
        "unmount",
        lambda tree: tree.hooks.unmounted([tree.d, tree.a]),
        ["d: UNMOUNT|ISDIR", "d: IGNORED", "d/a: UNMOUNT", "d/a: IGNORED"],
    ),
]


@pytest.mark.parametrize(
    ("call", "records"), [pytest.param(call, told, id=name) for name, call, told in CALLS]
)
def test_records_of(call: Callable[[Tree], object], records: list[str], tree: Tree) -> None:
    call(tree)
    assert_events(tree.device, records)


def test_both_halves_of_a_rename_share_a_cookie_of_their_own(tree: Tree) -> None:
    tree.hooks.renamed(tree.d, b"a", tree.d, b"x", tree.a)
    tree.hooks.renamed(tree.d, b"x", tree.d, b"a", tree.a)
    assert_events(
        tree.device,
        [
            *("d: MOVED_FROM a #1", "d: MOVED_TO x #1", "d/a: MOVE_SELF"),
            *("d: MOVED_FROM x #2", "d: MOVED_TO a #2", "d/a: MOVE_SELF"),
        ],
    )


class Removed:
    """A tree so deep, of which all is removed but a file at its end that is open.

    The uppermost directory is watched.
    """

    def __init__(self, hooks: Hooks, depth: int, name: bytes = b"d") -> None:
        directories = [Inode(is_dir=True)]
        for _ in range(depth):
            directories.append(Inode(is_dir=True))
            hooks.created(directories[-2], name, directories[-1])
        held = Inode(is_dir=False)
        hooks.created(directories[-1], b"f", held)
        self.file = File(held, writable=False)
        hooks.opened(self.file)
        self.device = DeviceTable(hooks.core, Limits(), LINUX_6).init(uid=0)
        self.device.add_watch(directories[1], IN_DELETE_SELF)
        hooks.unlinked(directories[-1], b"f", held, links=0)
        while len(directories) > 1:
            removed = directories.pop()
            hooks.removed_directory(directories[-1], name, removed)

    def heard(self) -> list[int]:
        queued = self.device.read(4096) if self.device.queued() else b""
        return [event.mask for event in unpack(queued)]


@pytest.mark.parametrize("depth", [2_000, 40_000])
def test_a_removed_tree_goes_with_the_last_file_in_it_however_deep(depth: int) -> None:
    hooks = Hooks(Core())
    tree = Removed(hooks, depth)
    assert not tree.heard()
    hooks.closed(tree.file)
    assert tree.heard() == [IN_DELETE_SELF, IN_IGNORED]


def test_names_that_are_held_are_shared_out_and_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hooks_module, "MOST_NAMES_HELD", 100)
    hooks = Hooks(Core())
    for _ in range(2):
        deep = Removed(hooks.by(Someone(1002)), 60)
        assert deep.heard() == [IN_DELETE_SELF, IN_IGNORED]  # it is more than half of them
        shallow = Removed(hooks.by(Someone(1001)), 10)
        assert not shallow.heard()
        hooks.closed(deep.file)
        hooks.closed(shallow.file)
        assert shallow.heard() == [IN_DELETE_SELF, IN_IGNORED]


def test_a_file_that_is_opened_again_without_a_name_gives_back_what_it_held_once(
    tree: Tree,
) -> None:
    """As by /proc/self/fd/N of an O_PATH descriptor, of which the filesystem does not know."""
    hooks = tree.hooks.by(Someone(1001))
    inner = hooks.created(tree.s, b"f", Inode(is_dir=False)).inode
    above = tree.s.dentry
    assert above is not None
    first = tree.opened(inner)
    hooks.unlinked(tree.s, b"f", inner, links=0)
    hooks.removed_directory(tree.d, b"s", tree.s)
    hooks.closed(first)
    for _ in range(2):
        hooks.closed(tree.opened(inner))
    assert above.users == 0


def test_a_link_to_a_file_without_a_name_leaves_others_names_alone(tree: Tree) -> None:
    file = tree.opened(tree.a)
    tree.hooks.unlinked(tree.d, b"a", tree.a, links=0)
    other = Inode(is_dir=False)
    known = tree.hooks.created(tree.d, b"a", other)
    tree.hooks.linked(tree.a, tree.d, b"again")
    assert not known.unlinked
    assert [dentry.name for dentry in tree.a.aliases()] == [b"again"]
    tree.hooks.closed(file)
