# SPDX-License-Identifier: GPL-2.0-or-later
"""What may happen in a watched tree and at its edges, in steps (tests.differential.trees)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fusenotify import bits
from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_ATTRIB,
    IN_CLOSE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_EXCL_UNLINK,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_MODIFY,
    IN_MOVE,
    IN_MOVE_SELF,
    IN_ONESHOT,
    IN_ONLYDIR,
    IN_OPEN,
)
from tests.differential.operations import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.differential.scenario import OPERATIONS, Operation, outcome
from tests.differential.trees import AnyTree, Steps

SCENARIOS: dict[str, Steps] = {}

# They use a directory that they made, in one step.
_WITHOUT_STEPS = {"twenty different operations"}


def steps(scenario: Steps) -> Steps:
    """Register a generator function as a scenario; it yields at the end of each step."""
    return register(scenario.__name__.strip("_"), scenario)


def register(name: str, scenario: Steps) -> Steps:
    name = name.replace("_", " ")
    assert name not in SCENARIOS, name
    SCENARIOS[name] = scenario
    return scenario


def _in_a_directory_below(done: Operation) -> Steps:
    def scenario(tree: AnyTree) -> Iterator[Any]:
        below = tree.top / "below"
        below.mkdir()
        below.chmod(0o755)
        done.prepare(below)
        tree.watch()
        yield outcome(lambda: done.act(below))

    return scenario


for _name, _operation in OPERATIONS.items():
    if _name not in _WITHOUT_STEPS:
        register(f"{_name}, in a directory below", _in_a_directory_below(_operation))


def make(top: Path, *paths: str) -> None:
    """Make files, and directories where a path ends in a slash."""
    for path in paths:
        if path.endswith("/"):
            (top / path).mkdir(parents=True)
        else:
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_bytes(b"content")


# What comes to be in the tree.


@steps
def directories_made_one_in_the_other(tree: AnyTree) -> Iterator[Any]:
    tree.watch()
    path = tree.top
    for name in ("a", "b", "c", "d", "e"):
        path = path / name
        path.mkdir()
        yield
        (path / "f").write_bytes(b"x")
        yield


@steps
def a_directory_is_made_listed_and_removed(tree: AnyTree) -> Iterator[Any]:
    tree.watch()
    (tree.top / "a").mkdir()
    yield
    os.listdir(tree.top / "a")
    yield
    (tree.top / "a").rmdir()
    yield


@steps
def a_directory_is_made_again_under_its_name(tree: AnyTree) -> Iterator[Any]:
    tree.watch()
    for _ in range(3):
        (tree.top / "a").mkdir()
        yield
        (tree.top / "a" / "f").write_bytes(b"x")
        (tree.top / "a" / "f").unlink()
        (tree.top / "a").rmdir()
        yield


@steps
def a_directory_comes_in_full(tree: AnyTree) -> Iterator[Any]:
    make(tree.beside, "a/b/c/f")
    tree.watch()
    (tree.beside / "a").rename(tree.top / "a")
    yield
    (tree.top / "a" / "b" / "c" / "f").write_bytes(b"y")
    (tree.top / "a" / "b").chmod(0o700)
    yield


@steps
def a_directory_comes_in_over_another(tree: AnyTree) -> Iterator[Any]:
    make(tree.beside, "a/b/")
    make(tree.top, "x/a/")
    tree.watch()
    (tree.beside / "a").rename(tree.top / "x" / "a")
    yield
    (tree.top / "x" / "a" / "b" / "f").write_bytes(b"y")
    yield


@steps
def a_file_comes_in_and_goes_out(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/")
    make(tree.beside, "f")
    tree.watch()
    (tree.beside / "f").rename(tree.top / "a" / "b" / "f")
    (tree.top / "a" / "b" / "f").rename(tree.beside / "g")
    yield


@steps
def a_hard_link_comes_in(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/")
    make(tree.beside, "f")
    tree.watch()
    os.link(tree.beside / "f", tree.top / "a" / "f")
    (tree.top / "a" / "f").write_bytes(b"y")
    yield


# What leaves it.


@steps
def a_directory_goes_out(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f")
    tree.watch()
    (tree.top / "a").rename(tree.beside / "a")
    yield
    (tree.beside / "a" / "b" / "f").write_bytes(b"y")
    (tree.beside / "a").chmod(0o700)
    (tree.beside / "a" / "b" / "f").unlink()
    (tree.beside / "a" / "b").rmdir()
    yield


@steps
def a_directory_goes_out_and_comes_back(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/")
    tree.watch()
    (tree.top / "a").rename(tree.beside / "x")
    yield
    (tree.beside / "x" / "b" / "f").write_bytes(b"x")
    (tree.beside / "x").rename(tree.top / "y")
    yield
    (tree.top / "y" / "b" / "f").write_bytes(b"y")
    yield


@steps
def an_open_file_goes_out_with_its_directory(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f")
    tree.watch()
    fd = os.open(tree.top / "a" / "b" / "f", os.O_WRONLY)
    (tree.top / "a").rename(tree.beside / "a")
    yield
    os.write(fd, b"x")
    os.close(fd)
    yield


@steps
def an_exchange_over_the_edge(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f")
    make(tree.beside, "x/y/g")
    tree.watch()
    renameat2(tree.top / "a", tree.beside / "x", RENAME_EXCHANGE)
    yield
    (tree.top / "a" / "y" / "g").write_bytes(b"x")
    (tree.beside / "x" / "b" / "f").write_bytes(b"x")
    yield


# What moves in it.


@steps
def a_full_directory_is_renamed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/c/f")
    tree.watch()
    (tree.top / "a").rename(tree.top / "x")
    yield
    (tree.top / "x" / "b" / "c" / "f").write_bytes(b"y")
    yield


@steps
def a_full_directory_moves_into_another(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/c/f", "x/y/")
    tree.watch()
    (tree.top / "a" / "b").rename(tree.top / "x" / "y" / "z")
    yield
    (tree.top / "x" / "y" / "z" / "c" / "f").unlink()
    (tree.top / "x" / "y" / "z" / "c").rmdir()
    yield


@steps
def a_directory_is_renamed_over_an_empty_one(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f", "x/y/")
    tree.watch()
    (tree.top / "a" / "b").rename(tree.top / "x" / "y")
    yield
    (tree.top / "x" / "y" / "f").write_bytes(b"y")
    yield


@steps
def a_directory_is_renamed_over_an_open_one(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/", "x/y/")
    tree.watch()
    fd = os.open(tree.top / "x" / "y", os.O_RDONLY | os.O_DIRECTORY)
    (tree.top / "a" / "b").rename(tree.top / "x" / "y")
    yield
    os.close(fd)
    yield


@steps
def a_directory_is_not_renamed_over_a_full_one(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/", "x/y/f")
    tree.watch()
    yield outcome(lambda: (tree.top / "a" / "b").rename(tree.top / "x" / "y"))
    yield outcome(lambda: renameat2(tree.top / "a" / "b", tree.top / "x" / "y", RENAME_NOREPLACE))
    yield outcome(lambda: (tree.top / "a").rename(tree.top / "a" / "b" / "c"))


@steps
def two_directories_are_exchanged(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f", "x/y/g")
    tree.watch()
    renameat2(tree.top / "a" / "b", tree.top / "x", RENAME_EXCHANGE)
    yield
    (tree.top / "x" / "f").write_bytes(b"x")
    (tree.top / "a" / "b" / "y" / "g").write_bytes(b"x")
    yield


@steps
def a_file_and_a_directory_are_exchanged(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/f", "x/y/g")
    tree.watch()
    renameat2(tree.top / "a" / "f", tree.top / "x" / "y", RENAME_EXCHANGE)
    yield
    (tree.top / "a" / "f" / "g").write_bytes(b"x")
    (tree.top / "x" / "y").write_bytes(b"x")
    yield


@steps
def a_directory_is_renamed_while_a_file_in_it_is_open(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f")
    tree.watch()
    fd = os.open(tree.top / "a" / "b" / "f", os.O_WRONLY)
    yield
    (tree.top / "a").rename(tree.top / "x")
    yield
    os.write(fd, b"x")
    os.fchmod(fd, 0o600)
    os.close(fd)
    yield


@steps
def a_directory_is_renamed_often(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "0/a/f")
    tree.watch()
    for number in range(5):
        (tree.top / str(number)).rename(tree.top / str(number + 1))
        yield
        (tree.top / str(number + 1) / "a" / "f").write_bytes(b"x")
        yield


# Attributes of directories and their lists.


@steps
def a_directory_below_is_changed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/")
    tree.watch()
    below = tree.top / "a" / "b"
    below.chmod(0o700)
    os.chown(below, 1, 1)
    os.utime(below, ns=(1, 2))
    os.setxattr(below, "user.x", b"1")
    os.removexattr(below, "user.x")
    yield


@steps
def a_directory_below_is_listed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f", "a/b/g")
    tree.watch()
    yield sorted(os.listdir(tree.top / "a" / "b"))
    yield sorted(os.listdir(tree.top / "a"))
    yield sorted(os.listdir(tree.top))


@steps
def the_watched_directory_is_changed_and_listed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/")
    tree.watch()
    tree.top.chmod(0o700)
    yield sorted(os.listdir(tree.top))


# Removing.


@steps
def a_tree_is_removed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/c/f", "a/b/g", "a/h")
    tree.watch()
    for path in ("a/b/c/f", "a/b/g", "a/h"):
        (tree.top / path).unlink()
    for path in ("a/b/c", "a/b", "a"):
        (tree.top / path).rmdir()
    yield


@steps
def a_directory_is_removed_while_it_is_open(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/")
    tree.watch()
    fd = os.open(tree.top / "a" / "b", os.O_RDONLY | os.O_DIRECTORY)
    (tree.top / "a" / "b").rmdir()
    os.fchmod(fd, 0o700)
    yield os.listdir(fd)
    os.close(fd)
    yield


@steps
def directories_are_removed_while_the_inner_one_is_open(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/c/")
    tree.watch()
    fd = os.open(tree.top / "a" / "b" / "c", os.O_RDONLY | os.O_DIRECTORY)
    for path in ("a/b/c", "a/b", "a"):
        (tree.top / path).rmdir()
    os.close(fd)
    yield


@steps
def directories_are_removed_while_a_removed_file_is_open(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/f")
    tree.watch()
    fd = os.open(tree.top / "a" / "b" / "f", os.O_WRONLY)
    (tree.top / "a" / "b" / "f").unlink()
    (tree.top / "a" / "b").rmdir()
    (tree.top / "a").rmdir()
    os.write(fd, b"x")
    os.fchmod(fd, 0o600)
    os.close(fd)
    yield


@steps
def the_watched_directory_is_removed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/")
    tree.watch()
    (tree.top / "a").rmdir()
    tree.top.rmdir()
    yield


@steps
def the_watched_directory_is_renamed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/")
    tree.watch()
    renamed = tree.top.with_name("renamed")
    tree.top.rename(renamed)
    tree.top = renamed
    (tree.top / "a" / "b" / "f").write_bytes(b"x")
    yield


@steps
def the_watched_directory_moves_into_a_directory(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/")
    (tree.top.parent / "other").mkdir()
    tree.watch()
    renamed = tree.top.parent / "other" / "top"
    tree.top.rename(renamed)
    tree.top = renamed
    (tree.top / "a" / "f").write_bytes(b"x")
    yield


# Files with two names, and symbolic links.


@steps
def a_file_has_two_names_in_two_directories(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/f", "b/")
    tree.watch()
    os.link(tree.top / "a" / "f", tree.top / "b" / "g")
    (tree.top / "a" / "f").write_bytes(b"x")
    (tree.top / "b" / "g").write_bytes(b"y")
    (tree.top / "b" / "g").chmod(0o600)
    (tree.top / "a" / "f").unlink()
    (tree.top / "b" / "g").write_bytes(b"z")
    yield


@steps
def a_file_is_used_through_a_symbolic_link(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/f", "b/")
    tree.watch()
    (tree.top / "b" / "l").symlink_to("../a/f")
    (tree.top / "b" / "l").write_bytes(b"x")
    yield


@steps
def a_symbolic_link_to_a_directory_outside_is_no_part_of_the_tree(
    tree: AnyTree,
) -> Iterator[Any]:
    make(tree.top, "a/")
    make(tree.beside, "b/f")
    (tree.top / "a" / "l").symlink_to(tree.beside / "b")
    tree.watch()
    (tree.top / "a" / "l" / "f").write_bytes(b"x")
    yield


# Masks and flags.


def _all_kinds(tree: AnyTree) -> Iterator[Any]:
    """Let every type of event happen in the tree, of files and of directories."""
    (tree.top / "a" / "new").mkdir()
    yield
    (tree.top / "a" / "new" / "f").write_bytes(b"x")
    (tree.top / "a" / "new" / "f").read_bytes()
    (tree.top / "a" / "new" / "f").chmod(0o600)
    (tree.top / "a" / "new" / "f").rename(tree.top / "b" / "g")
    os.listdir(tree.top / "a" / "new")
    yield
    (tree.top / "a" / "new").rename(tree.top / "b" / "old")
    yield
    (tree.top / "b" / "old").chmod(0o700)
    (tree.top / "b" / "old").rmdir()
    (tree.top / "b" / "g").unlink()
    yield


def _asked_for(*asked: int) -> Steps:
    """Watch with these masks, one after the other, then let everything happen."""

    def scenario(tree: AnyTree) -> Iterator[Any]:
        make(tree.top, "a/", "b/")
        for mask in asked:
            yield outcome(partial(tree.watch, mask))
        yield from _all_kinds(tree)

    return scenario


for _word in bits.names(IN_ALL_EVENTS):
    register(f"only {_word} asked for", _asked_for(bits.SINGLE_BITS[_word]))
register("close asked for", _asked_for(IN_CLOSE))
register("move asked for", _asked_for(IN_MOVE))
register("what directories say of themselves asked for", _asked_for(IN_DELETE_SELF | IN_MOVE_SELF))
register("another mask replaces the first", _asked_for(IN_CREATE, IN_DELETE | IN_OPEN))
register("a mask is added", _asked_for(IN_CREATE, IN_DELETE | IN_MASK_ADD))
register("a mask for a new watch only", _asked_for(IN_CREATE, IN_DELETE | IN_MASK_CREATE))
register("a mask for a new watch", _asked_for(IN_CREATE | IN_MASK_CREATE))
register("only a directory", _asked_for(IN_CREATE | IN_ONLYDIR))
register("one event only", _asked_for(IN_ALL_EVENTS | IN_ONESHOT))
register("one deletion only", _asked_for(IN_DELETE | IN_ONESHOT))
register("one end of a directory only", _asked_for(IN_DELETE_SELF | IN_ONESHOT))
register("no longer one event only", _asked_for(IN_ATTRIB | IN_ONESHOT, IN_ATTRIB))
register(
    "masks that are refused",
    _asked_for(0, 0x1000, IN_MASK_ADD | IN_MASK_CREATE | IN_CREATE, 0xFFFFFFFF, IN_CREATE),
)


def _gone(mask: int) -> Steps:
    def scenario(tree: AnyTree) -> Iterator[Any]:
        make(tree.top, "a/b/f", "a/b/d/")
        tree.watch(mask)
        below = tree.top / "a" / "b"
        file, directory = (
            os.open(below / "f", os.O_WRONLY),
            os.open(below / "d", os.O_RDONLY | os.O_DIRECTORY),
        )
        (below / "f").unlink()
        (below / "d").rmdir()
        yield
        os.write(file, b"x")
        os.fchmod(file, 0o600)
        os.ftruncate(file, 0)
        os.fchmod(directory, 0o700)
        os.listdir(directory)
        os.close(file)
        os.close(directory)
        yield

    return scenario


register("what is gone is used", _gone(IN_ALL_EVENTS))
register("what is gone is used, and excluded", _gone(IN_ALL_EVENTS | IN_EXCL_UNLINK))


@steps
def the_watch_is_removed(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/b/")
    wd = tree.watch()
    (tree.top / "a" / "b" / "f").write_bytes(b"x")
    yield
    tree.rm_watch(wd)
    (tree.top / "a" / "b" / "f").write_bytes(b"y")
    yield


# Merging and overflow.


@steps
def equal_records_merge(tree: AnyTree) -> Iterator[Any]:
    make(tree.top, "a/f", "b/f")
    tree.watch(IN_MODIFY | IN_ATTRIB)
    for name in ("a", "a", "b", "a"):
        for _ in range(2):
            (tree.top / name / "f").write_bytes(b"x")
            (tree.top / name).chmod(0o755)
            (tree.top / name).chmod(0o755)
    yield


def _overflow(count: int) -> Callable[[AnyTree], Iterator[Any]]:
    def scenario(tree: AnyTree) -> Iterator[Any]:
        make(tree.top, "a/b/", "c/")
        tree.watch(IN_CREATE | IN_DELETE)
        for number in range(count):
            (tree.top / "a" / "b" / str(number)).write_bytes(b"")
            (tree.top / "c" / str(number)).write_bytes(b"")
        yield
        (tree.top / "c" / "0").unlink()
        yield

    return scenario


# With a queue of four.
OVERFLOWS = {
    "the queue is full": _overflow(2),
    "the queue overflows": _overflow(3),
    "the queue overflows by far": _overflow(20),
}
