# SPDX-License-Identifier: GPL-2.0-or-later
"""Names are told in order, whatever others do between a request's change and its telling.

The filesystem's side runs in this process, without a mount, so that others can change SOURCE
at a chosen moment.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyfuse3 import ROOT_INODE, EntryAttributes

from fusenotify.bits import IN_ATTRIB, IN_CREATE, IN_DELETE, IN_MOVE, IN_Q_OVERFLOW, names
from fusenotify.engine.core import Core
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_6
from fusenotify.errors import QueueEmpty
from fusenotify.events import Event, unpack
from fusenotify.fs.behind.in_order import HooksInOrder
from fusenotify.fs.behind.listening import Behind
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.operations import Operations
from fusenotify.fs.submounts import Submounts
from fusenotify.heard import ALL
from fusenotify.view import View
from tests.trees.mirror import Model, listing

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem")

MASK = IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB
OTHER = """
import os, sys
os.chdir(sys.argv[1])
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Other:
    """Another process, which changes SOURCE; the kernel merges what it does until that is read."""

    def __init__(self, top: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, top],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __call__(self, *statements: str) -> None:
        """Run statements of Python in SOURCE."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for statement in statements:
            self._process.stdin.write(statement + "\n")
            assert self._process.stdout.readline() == "done\n"

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Unanswered(Operations):
    """Requests whose answers no kernel gets."""

    def entry(self, inode: Inode, status: os.stat_result) -> EntryAttributes:
        return EntryAttributes()


class Tree:
    """SOURCE, a tree watch of it, and requests that others overtake."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.core = Core()
        self.inodes = Inodes(Submounts(os.open(top, os.O_PATH)), self.core)
        self.hooks = HooksInOrder(self.core)
        self.behind = Behind(ALL, self.inodes, self.hooks)
        self.operations = Unanswered(self.inodes, self.hooks, socket=b"", view=View())
        self.device = DeviceTable(self.core, Limits(), LINUX_6).init(0)
        self.device.add_watch(self.inodes.root, MASK, tree=True)
        self.model = Model.listed(top)
        self.told: list[str] = []
        self.other, self.another = Other(top), Other(top)

    def close(self) -> None:
        self.other.end()
        self.another.end()
        self.behind.close()
        self.inodes.close()

    def looked_up(self, path: str) -> Inode:
        """Make a path known, as LOOKUP does."""
        inode = self.inodes.root
        for name in path.encode().split(b"/") if path else []:
            inode, _ = self.inodes.lookup(inode, name)
            inode.pins += 1
        return inode

    def mkdir(self, path: str, meanwhile: Callable[[], None]) -> None:
        """MKDIR; others do something before it is told."""
        above, _, name = path.rpartition("/")
        parent = self.looked_up(above)
        os.mkdir(name, dir_fd=parent.fd)
        meanwhile()
        with contextlib.suppress(FileNotFoundError):
            self.operations._made(parent, name.encode(), context(), is_dir=True)

    def rename(self, old: str, new: str, meanwhile: Callable[[], None]) -> None:
        """RENAME; others do something after its lookups and before it is told."""
        (above, _, name), (new_above, _, new_name) = old.rpartition("/"), new.rpartition("/")
        parent, new_parent = self.looked_up(above), self.looked_up(new_above)
        moved, target = self.looked_up(old), None
        with contextlib.suppress(FileNotFoundError):
            target = self.looked_up(new)
        meanwhile()
        os.rename(name, new_name, src_dir_fd=parent.fd, dst_dir_fd=new_parent.fd)
        self.hooks.by(None).renamed(
            parent, name.encode(), new_parent, new_name.encode(), moved, target
        )

    def read(self) -> bool:
        """Read all records; return whether all could be told at once."""
        self.behind._reading.read_all()
        return self.behind._reading.tell(float("inf"))

    def settle(self) -> list[str]:
        """Tell everything; return what was told, which must lead to the tree."""
        until = time.monotonic() + 10
        while not self.read() or self.behind._reading.settle():
            assert time.monotonic() < until
        records: list[Event] = []
        with contextlib.suppress(QueueEmpty):
            while True:
                records += unpack(self.device.read(1 << 20))
        told = [
            "|".join(names(each.mask)) + f" {os.fsdecode(each.name or b'')}" for each in records
        ]
        if any(each.mask & IN_Q_OVERFLOW for each in records):
            self.model = Model.listed(self.top)
        else:
            self.model.follow(records)
        assert self.model.listing() == listing(self.top), told
        return told


def context() -> Any:
    """A request's context: by nobody in particular."""
    return SimpleNamespace(pid=0, uid=0, gid=0, umask=0)


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """SOURCE on a disk of its own, so that there are no other records."""
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    source = tmp_path / "source"
    source.mkdir()
    yield source
    subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture
def make(top: Path) -> Iterator[Callable[..., Tree]]:
    """Make paths in SOURCE (with a slash at the end directories), then the tree of them."""
    with contextlib.ExitStack() as leaving:

        def make_tree(*paths: str) -> Tree:
            for path in paths:
                if path.endswith("/"):
                    (top / path).mkdir(parents=True)
                else:
                    (top / path).touch()
            tree = Tree(top)
            leaving.callback(tree.close)
            return tree

        yield make_tree


def test_a_new_directory_is_told_before_the_one_that_replaces_it_at_once(
    make: Callable[..., Tree],
) -> None:
    tree = make("e/", "e/d/")
    tree.looked_up("e/d")
    tree.mkdir("b", lambda: tree.other("open('e/d/c', 'w').close()", "os.rename('e/d', 'b')"))
    assert tree.settle() == [
        "CREATE|ISDIR b",
        "CREATE e/d/c",
        "MOVED_FROM|ISDIR e/d",
        "MOVED_TO|ISDIR b",
        "ATTRIB|ISDIR b/",
    ]


def test_a_new_directory_that_a_file_replaces_at_once_is_told_as_a_directory(
    make: Callable[..., Tree],
) -> None:
    tree = make()
    tree.mkdir("b", lambda: tree.other("os.rmdir('b')", "open('b', 'w').close()"))
    assert tree.settle() == ["CREATE|ISDIR b", "DELETE|ISDIR b", "CREATE b"]


def test_a_new_directory_that_is_gone_at_once_is_told_with_its_removal(
    make: Callable[..., Tree],
) -> None:
    tree = make()
    tree.mkdir("b", lambda: tree.other("os.rmdir('b')"))
    assert tree.settle() == ["CREATE|ISDIR b", "DELETE|ISDIR b"]


def test_what_moves_is_what_had_the_name_when_it_was_moved(make: Callable[..., Tree]) -> None:
    tree = make("f")
    tree.rename("f", "g", lambda: tree.other("os.unlink('f')", "os.makedirs('f/below')"))
    assert tree.settle() == [
        "DELETE f",
        "CREATE|ISDIR f",
        "CREATE|ISDIR f/below",
        "MOVED_FROM|ISDIR f",
        "MOVED_TO|ISDIR g",
    ]


def test_a_moved_object_that_is_gone_since_is_told_as_what_it_was(
    make: Callable[..., Tree],
) -> None:
    tree = make("f")
    parent = tree.looked_up("")
    moved = tree.looked_up("f")
    tree.other("os.unlink('f')", "os.mkdir('f')")
    os.rename("f", "g", src_dir_fd=parent.fd, dst_dir_fd=parent.fd)
    tree.other("os.rmdir('g')")
    tree.hooks.by(None).renamed(parent, b"f", parent, b"g", moved)
    assert tree.settle() == [
        "DELETE f",
        "CREATE|ISDIR f",
        "MOVED_FROM|ISDIR f",
        "MOVED_TO|ISDIR g",
        "DELETE|ISDIR g",
    ]


def test_an_unknown_directory_that_is_replaced_says_so(make: Callable[..., Tree]) -> None:
    tree = make("from/below/", "to/")
    tree.rename("from", "to", lambda: tree.other("os.rmdir('to')", "os.mkdir('to')"))
    assert tree.settle() == [
        "DELETE|ISDIR to",
        "CREATE|ISDIR to",
        "MOVED_FROM|ISDIR from",
        "MOVED_TO|ISDIR to",
        "ATTRIB|ISDIR to/",
    ]


def test_a_removal_merged_with_a_write_is_told_after_the_moves_before_it(
    make: Callable[..., Tree],
) -> None:
    tree = make("x")
    tree.other("open('x', 'a').write('x')")
    tree.another("os.rename('x', 'y')", "os.rename('y', 'x')")
    tree.other("os.unlink('x')")
    assert tree.settle() == [
        "MOVED_FROM x",
        "MOVED_TO y",
        "MOVED_FROM y",
        "MOVED_TO x",
        "DELETE x",
    ]


def test_a_removal_merged_with_a_write_is_told_before_the_next_creation(
    make: Callable[..., Tree],
) -> None:
    tree = make("x")
    tree.other("open('x', 'a').write('x')", "os.unlink('x')")
    tree.another("open('x', 'w').close()", "os.rename('x', 'y')")
    assert tree.settle() == ["DELETE x", "CREATE x", "MOVED_FROM x", "MOVED_TO y"]


def test_a_merged_removal_is_told_after_the_requests_before_it(
    make: Callable[..., Tree],
) -> None:
    tree = make("x")
    tree.other("open('x', 'a').write('x')")

    def back_and_gone() -> None:
        tree.another("os.rename('y', 'x')")
        tree.other("os.unlink('x')")

    parent, moved = tree.looked_up(""), tree.looked_up("x")
    os.rename("x", "y", src_dir_fd=parent.fd, dst_dir_fd=parent.fd)
    back_and_gone()
    tree.hooks.by(None).renamed(parent, b"x", parent, b"y", moved)
    assert tree.settle() == [
        "MOVED_FROM x",
        "MOVED_TO y",
        "MOVED_FROM y",
        "MOVED_TO x",
        "DELETE x",
    ]


@pytest.mark.parametrize("made_by", ["nobody knows", "a request"])
def test_a_removal_merged_with_the_next_creation_is_told_first(
    make: Callable[..., Tree], made_by: str
) -> None:
    tree = make("f", *["x"] * (made_by == "nobody knows"))
    if made_by == "a request":
        parent = tree.looked_up("")
        os.close(os.open("x", os.O_CREAT, dir_fd=parent.fd))
        tree.operations._made(parent, b"x", context())
        assert tree.settle() == ["CREATE x"]
    tree.other("os.link('x', 'y')")
    assert tree.settle() == ["CREATE y"]
    tree.other("os.unlink('x')", "os.link('y', 'x')")
    assert tree.settle() == ["DELETE x", "CREATE x"]


def test_what_is_removed_and_made_again_and_then_moved_is_told_as_moved(
    make: Callable[..., Tree],
) -> None:
    tree = make("x")
    tree.other("os.link('x', 'y')")
    tree.looked_up("x")
    assert tree.settle() == ["CREATE y"]
    tree.other("os.unlink('x')", "os.link('y', 'x')")
    tree.another("os.rename('x', 'z')")
    assert tree.settle() == ["MOVED_FROM x", "MOVED_TO z"]


def test_a_new_file_that_was_looked_up_before_it_was_removed_is_told_as_new(
    make: Callable[..., Tree],
) -> None:
    tree = make()
    tree.other("open('x', 'w').close()")
    tree.looked_up("x")
    tree.other("os.unlink('x')")
    assert tree.settle() == ["CREATE x", "DELETE x"]


def test_merged_renames_of_a_file_are_mended(make: Callable[..., Tree]) -> None:
    tree = make("x")
    tree.other("os.rename('x', 'y')", "os.rename('y', 'x')", "os.rename('x', 'y')")
    assert tree.settle()[-2:] == ["DELETE x", "CREATE y"]


def test_merged_renames_of_a_directory_are_a_loss(make: Callable[..., Tree]) -> None:
    tree = make("x/", "x/below/")
    tree.other("os.rename('x', 'y')", "os.rename('y', 'x')", "os.rename('x', 'y')")
    assert "Q_OVERFLOW " in tree.settle()
    tree.other("os.mkdir('y/new')")
    assert tree.settle() == ["CREATE|ISDIR y/new"]


@pytest.mark.parametrize("other", ["f", "f/"])
def test_an_exchange_whose_second_half_is_merged_is_told_as_one(
    make: Callable[..., Tree], other: str
) -> None:
    tree = make("a/", "b/x/", other)
    exchange = "renameat2(-100, b'a', -100, b'b', 2)"
    tree.other("from fusenotify.fs.syscalls import renameat2", exchange)
    for old, new in ("at", "bc", "tb", "fa"):
        tree.another(f"os.rename('{old}', '{new}')")
    tree.other(exchange)  # that b became a is merged with the same of the first exchange
    assert tree.settle()[-4:] == [
        f"MOVED_FROM{'|ISDIR' * (other == 'f/')} a",
        f"MOVED_TO{'|ISDIR' * (other == 'f/')} b",
        "MOVED_FROM|ISDIR b",
        "MOVED_TO|ISDIR a",
    ]
    tree.other("os.mkdir('a/x/new')")
    assert tree.settle() == ["CREATE|ISDIR a/x/new"]


def test_after_a_loss_directories_are_told_where_they_are(make: Callable[..., Tree]) -> None:
    tree = make("a/b/c/", "d/")
    tree.looked_up("a/b/c")
    tree.other("os.rename('a/b', 'd/e')")
    tree.behind._reading.read_all()
    tree.behind._reading.lose()
    tree.other("os.mkdir('d/e/c/f')")
    tree.settle()
    tree.other("os.mkdir('d/e/c/g')")
    assert tree.settle() == ["CREATE|ISDIR d/e/c/g"]


def test_a_directory_whose_removal_no_record_tells_is_a_loss(make: Callable[..., Tree]) -> None:
    tree = make("d/a/", "d/b/", "d/b/f")
    # The record about the directory that is replaced is merged with chmod's, before the rename.
    tree.other("os.chmod('d/b', 0o700)", "os.rename('d/b/f', 'f')", "os.rename('d/a', 'd/b')")
    told = tree.settle()
    assert told[-1] == "Q_OVERFLOW "
    assert "MOVED_TO f" not in told  # as if it came from outside


def test_after_a_loss_the_kernel_forgets_the_names_of_directories_that_are_gone(
    make: Callable[..., Tree],
) -> None:
    tree = make("gone/", "old/")
    for name in ("gone", "old"):
        tree.looked_up(name)
    tree.other("os.rmdir('gone')", "os.rename('old', 'new')")
    tree.behind._reading.read_all()
    tree.behind._reading.lose()
    forgotten = tree.behind.forgetting._waiting.names
    assert {(ROOT_INODE, b"gone"), (ROOT_INODE, b"old")} <= forgotten.keys()


def test_a_request_waits_for_all_records_before_it(make: Callable[..., Tree]) -> None:
    tree = make("d/")
    tree.other(
        "for n in range(3000): open(f'd/{n}', 'w').close()", "os.mkdir('b')", "os.rmdir('b')"
    )
    tree.mkdir("b", lambda: None)
    told = tree.settle()
    assert "Q_OVERFLOW " not in told
    assert told[-1] == "CREATE|ISDIR b"


def test_what_was_done_in_a_directory_elsewhere_that_is_gone_holds_nobody_up(
    make: Callable[..., Tree], tmp_path: Path
) -> None:
    tree = make("d/")
    tree.other(
        f"os.makedirs('{tmp_path}/elsewhere/a/b')",
        f"open('{tmp_path}/elsewhere/a/b/f', 'w').close()",
        f"os.unlink('{tmp_path}/elsewhere/a/b/f')",
        f"os.removedirs('{tmp_path}/elsewhere/a/b')",
        "os.mkdir('d/new')",
    )
    assert tree.read()
    assert tree.settle() == ["CREATE|ISDIR d/new"]


def test_the_removal_of_a_deep_tree_elsewhere_takes_one_search(
    make: Callable[..., Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make("d/")
    tree.other(f"os.makedirs('{tmp_path}/{'deep/' * 500}')", "os.rename('d', 'e')")
    tree.settle()
    tree.other(f"import shutil; shutil.rmtree('{tmp_path}/deep')")
    first_move, steps = tree.behind._pending.first_move, []

    def counted(directory: bytes, **more: bool) -> Any:
        steps.append(directory)
        return first_move(directory, **more)

    monkeypatch.setattr(tree.behind._pending, "first_move", counted)
    assert tree.settle() == []
    assert 500 <= len(steps) < 2000


def test_a_lookup_waits_only_for_records_of_its_directory(make: Callable[..., Tree]) -> None:
    tree = make("d/known/", "e/")
    tree.looked_up("e")
    tree.other("os.mkdir('e/f')")
    tree.looked_up("d/known")
    assert tree.behind._pending.foreign == 1
    tree.looked_up("e/f")
    assert tree.behind._pending.foreign == 0
    assert tree.settle() == ["CREATE|ISDIR e/f"]


def test_a_busy_program_elsewhere_hides_nothing_in_a_directory_that_is_gone(
    make: Callable[..., Tree], tmp_path: Path
) -> None:
    tree = make("d/")
    tree.other("os.makedirs('d/a/b')", "os.rename('d/a', 'd/c')", "os.mkdir('d/c/b/x')")
    more = tree.behind._whereabouts.more

    def busy() -> bool:
        tree.another(f"open('{tmp_path}/busy', 'a').write('x')")
        return more()

    tree.behind._whereabouts.more = busy
    assert tree.settle() == [
        "CREATE|ISDIR d/a",
        "CREATE|ISDIR d/a/b",
        "MOVED_FROM|ISDIR d/a",
        "MOVED_TO|ISDIR d/c",
        "CREATE|ISDIR d/c/b/x",
    ]
