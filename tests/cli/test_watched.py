# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches keep their paths through renames."""

from __future__ import annotations

import pytest

from fusenotify.cli.watched import WatchedTree


@pytest.fixture
def tree() -> WatchedTree:
    tree = WatchedTree()
    tree.add_root(1, b"m/")
    for wd, (above, name) in enumerate([(1, b"a"), (2, b"b"), (1, b"ab")], start=2):
        tree.attach(wd, above, name)
    tree.add_root(5, b"m/a.txt")
    return tree


def paths(tree: WatchedTree) -> list[bytes | None]:
    return [tree.path(wd) for wd in range(1, 6)]


def test_a_renamed_directory_takes_what_is_below_with_it(tree: WatchedTree) -> None:
    tree.moved(2, (1, b"a"), (4, b"z"))
    assert paths(tree) == [b"m/", b"m/ab/z/", b"m/ab/z/b/", b"m/ab/", b"m/a.txt"]


def test_an_exchange_moves_one_after_the_other(tree: WatchedTree) -> None:
    tree.moved(2, (1, b"a"), (1, b"ab"))
    assert tree.path(4) is None
    tree.moved(4, (1, b"ab"), (1, b"a"))
    assert paths(tree) == [b"m/", b"m/ab/", b"m/ab/b/", b"m/a/", b"m/a.txt"]
    assert tree.strays() == []


def test_what_moved_out_has_no_path_and_nothing_below_has(tree: WatchedTree) -> None:
    tree.moved(2, (1, b"a"), None)
    assert paths(tree) == [b"m/", None, None, b"m/ab/", b"m/a.txt"]
    assert tree.strays() == [2]
    assert tree.subtree(2) == [2, 3]


def test_a_move_from_where_it_is_not_moves_nothing(tree: WatchedTree) -> None:
    tree.moved(2, (1, b"ab"), (4, b"z"))
    assert tree.path(2) == b"m/a/"


def test_a_directory_is_not_hung_below_itself(tree: WatchedTree) -> None:
    assert not tree.attach(2, 3, b"a")
    assert tree.path(3) == b"m/a/b/"


def test_a_forgotten_watch_has_no_path_and_what_was_below_is_stray(tree: WatchedTree) -> None:
    tree.forget(2)
    tree.forget(2)
    assert paths(tree) == [b"m/", None, None, b"m/ab/", b"m/a.txt"]
    assert tree.strays() == [3]
    assert len(tree) == 4


def test_a_scattered_tree_is_put_together_again(tree: WatchedTree) -> None:
    tree.scatter()
    assert paths(tree) == [b"m/", None, None, None, b"m/a.txt"]
    assert tree.attach(2, 1, b"a")
    assert tree.path(2) == b"m/a/"
    assert tree.strays() == [3, 4]


def test_what_the_user_named_keeps_that_name(tree: WatchedTree) -> None:
    tree.add_root(3, b"link/")
    tree.moved(2, (1, b"a"), (1, b"z"))
    assert tree.path(3) == b"link/"


def test_a_tree_may_be_deeper_than_the_stack(tree: WatchedTree) -> None:
    for wd in range(10, 20010):
        tree.attach(wd, wd - 1 if wd > 10 else 1, b"d")
    path = tree.path(20009)
    assert path is not None
    assert len(path) == len(b"m/") + 20000 * len(b"d/")
    assert len(tree.subtree(1)) == 20004
