# SPDX-License-Identifier: GPL-2.0-or-later
"""The hooks: which records an operation gives, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.hooks import File, Hooks
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_6
from fusenotify.errors import QueueEmpty
from fusenotify.events import unpack
from fusenotify.masks import IN_ALL_EVENTS, names


class Tree:
    """A directory d with files a and b and a directory s in it, all watched."""

    def __init__(self) -> None:
        self.core = Core()
        self.hooks = Hooks(self.core)
        self.device = DeviceTable(self.core, Limits(), LINUX_6).init(0)
        self.d = Inode(is_dir=True)
        self.a, self.b, self.s = Inode(False), Inode(False), Inode(True)
        self.labels: dict[int, str] = {}
        for label in "dabs":
            inode: Inode = getattr(self, label)
            if label != "d":
                self.core.instantiate(self.d, label.encode(), inode)
            self.labels[self.device.add_watch(inode, IN_ALL_EVENTS)] = label

    def opened(self, inode: Inode, writable: bool = False) -> File:
        file = File(inode, writable)
        self.hooks.opened(file)
        return file

    def told(self) -> list[str]:
        """Return the records as ``watch MASK name``, cookies left out."""
        try:
            records = self.device.read(1 << 20)
        except QueueEmpty:
            return []
        return [
            " ".join(
                [self.labels[event.wd], "|".join(names(event.mask))]
                + ([event.name.decode()] if event.name else [])
            )
            for event in unpack(records)
        ]


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
        ["d CREATE new"],
    ),
    ("mkdir", lambda tree: tree.hooks.created(tree.d, b"new", Inode(True)), ["d CREATE|ISDIR new"]),
    ("open", lambda tree: tree.opened(tree.a), ["d OPEN a", "a OPEN"]),
    ("opendir", lambda tree: tree.opened(tree.s), ["d OPEN|ISDIR s", "s OPEN|ISDIR"]),
    (
        "link",
        lambda tree: tree.hooks.linked(tree.a, tree.s, b"a2"),
        ["a ATTRIB", "s CREATE a2"],
    ),
    (
        "unlink",
        lambda tree: tree.hooks.unlinked(tree.d, b"a", tree.a, links=0),
        ["a ATTRIB", "a DELETE_SELF", "a IGNORED", "d DELETE a"],
    ),
    (
        "unlink, another link left",
        lambda tree: tree.hooks.unlinked(tree.d, b"a", tree.a, links=1),
        ["a ATTRIB", "d DELETE a"],
    ),
    (
        "unlink while open",
        unlink_while_open,
        [
            "d OPEN a",
            "a OPEN",
            "a ATTRIB",
            "d DELETE a",
            "d MODIFY a",
            "a MODIFY",
            "d CLOSE_WRITE a",
            "a CLOSE_WRITE",
            "a DELETE_SELF",
            "a IGNORED",
        ],
    ),
    (
        "rmdir",
        lambda tree: tree.hooks.removed_directory(tree.d, b"s", tree.s),
        ["s DELETE_SELF", "s IGNORED", "d DELETE|ISDIR s"],
    ),
    (
        "rmdir while open",
        rmdir_while_open,
        [
            "d OPEN|ISDIR s",
            "s OPEN|ISDIR",
            "d DELETE|ISDIR s",
            "d CLOSE_NOWRITE|ISDIR s",
            "s CLOSE_NOWRITE|ISDIR",
            "s DELETE_SELF",
            "s IGNORED",
        ],
    ),
    (
        "rename",
        lambda tree: tree.hooks.renamed(tree.d, b"a", tree.s, b"x", tree.a),
        ["d MOVED_FROM a", "s MOVED_TO x", "a MOVE_SELF"],
    ),
    (
        "rename over another",
        rename_a_over_b,
        [
            "d MOVED_FROM a",
            "d MOVED_TO b",
            "b ATTRIB",
            "a MOVE_SELF",
            "b DELETE_SELF",
            "b IGNORED",
        ],
    ),
    (
        "rename over an open one",
        rename_a_over_b_while_open,
        [
            "d OPEN b",
            "b OPEN",
            "d MOVED_FROM a",
            "d MOVED_TO b",
            "b ATTRIB",
            "a MOVE_SELF",
            "d CLOSE_NOWRITE b",
            "b CLOSE_NOWRITE",
            "b DELETE_SELF",
            "b IGNORED",
        ],
    ),
    (
        "rename a directory",
        lambda tree: tree.hooks.renamed(tree.d, b"s", tree.d, b"x", tree.s),
        ["d MOVED_FROM|ISDIR s", "d MOVED_TO|ISDIR x", "s MOVE_SELF"],
    ),
    (
        "exchange",
        lambda tree: tree.hooks.exchanged(tree.d, b"a", tree.a, tree.d, b"b", tree.b),
        [
            "d MOVED_FROM a",
            "d MOVED_TO b",
            "a MOVE_SELF",
            "d MOVED_FROM b",
            "d MOVED_TO a",
            "b MOVE_SELF",
        ],
    ),
    (
        "write after a rename",
        write_after_rename,
        [
            "d OPEN a",
            "a OPEN",
            "d MOVED_FROM a",
            "d MOVED_TO new",
            "a MOVE_SELF",
            "d MODIFY new",
            "a MODIFY",
        ],
    ),
    (
        "open with O_TRUNC, set-id bits lost",
        truncate_by_open,
        ["d OPEN a", "a OPEN", "d MODIFY|ATTRIB a", "a MODIFY|ATTRIB"],
    ),
    (
        "chmod and truncate in one",
        lambda tree: tree.hooks.attributes_changed(
            tree.a, tree.a.dentry, size=True, owner_or_mode=True
        ),
        ["d MODIFY|ATTRIB a", "a MODIFY|ATTRIB"],
    ),
    (
        "utimensat, atime only",
        lambda tree: tree.hooks.attributes_changed(tree.a, tree.a.dentry, atime=True),
        ["d ACCESS a", "a ACCESS"],
    ),
    (
        "utimensat, mtime only",
        lambda tree: tree.hooks.attributes_changed(tree.a, tree.a.dentry, mtime=True),
        ["d MODIFY a", "a MODIFY"],
    ),
    (
        "utimensat, both",
        lambda tree: tree.hooks.attributes_changed(tree.s, tree.s.dentry, atime=True, mtime=True),
        ["d ATTRIB|ISDIR s", "s ATTRIB|ISDIR"],
    ),
    (
        "utimensat, neither",
        lambda tree: tree.hooks.attributes_changed(tree.a, tree.a.dentry),
        [],
    ),
    (
        "setxattr on the root",
        lambda tree: tree.hooks.xattr_changed(tree.d),
        ["d ATTRIB|ISDIR"],
    ),
    (
        "unmount",
        lambda tree: tree.hooks.unmounted([tree.d, tree.a]),
        ["d UNMOUNT|ISDIR", "d IGNORED", "a UNMOUNT", "a IGNORED"],
    ),
]


@pytest.mark.parametrize(
    ("call", "records"), [pytest.param(call, told, id=name) for name, call, told in CALLS]
)
def test_records_of(call: Callable[[Tree], object], records: list[str]) -> None:
    tree = Tree()
    call(tree)
    assert tree.told() == records


def test_both_halves_of_a_rename_share_a_cookie_of_their_own() -> None:
    tree = Tree()
    tree.hooks.renamed(tree.d, b"a", tree.d, b"x", tree.a)
    tree.hooks.renamed(tree.d, b"x", tree.d, b"a", tree.a)
    cookies = [event.cookie for event in unpack(tree.device.read(4096)) if event.cookie]
    assert cookies[0] == cookies[1] != cookies[2] == cookies[3]
