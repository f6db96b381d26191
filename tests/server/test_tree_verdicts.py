# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tree watch tells a user is what that user's own watches below could tell.

The kernel is asked by inotify_add_watch(2) in the user's name, on SOURCE or
through the mount, for each directory of random trees; then root makes a file in each
through the mount, and each user's tree watches tell of those in the directories
that the kernel would have let them watch, and of no others.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify
from fusenotify.client import Client, Device
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE, IN_ONLYDIR, IN_Q_OVERFLOW
from tests.server.acting import User, acting_as
from tests.server.test_verdicts import USERS
from tests.server.verdict_trees import TREES, Tree, give_owner_and_mode, relative_links

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users"),
]

_libc = ctypes.CDLL(None, use_errno=True)

# A tree and a directory in it, b"" for its top; by user.
Places = dict[User, set[tuple[bytes, bytes]]]


def directories_of(top: bytes) -> list[bytes]:
    """Return the directories in a tree, by their paths from its top."""
    return [os.path.relpath(path, top).removeprefix(b".") for path, _, _ in os.walk(top)]


def kernels_verdicts(source: bytes, trees: list[bytes]) -> Places:
    """Return which directories each user could watch."""
    inotify = _libc.inotify_init1(os.O_CLOEXEC)
    may: Places = {user: set() for user in USERS}
    try:
        for tree in trees:
            for below in directories_of(source + b"/" + tree):
                path = b"/".join([source, tree, below])
                for user in USERS:
                    with acting_as(user):
                        wd = _libc.inotify_add_watch(inotify, path, IN_CREATE | IN_ONLYDIR)
                    assert wd > 0 or ctypes.get_errno() == errno.EACCES
                    if wd > 0:
                        may[user].add((tree, below))
    finally:
        os.close(inotify)
    return may


class Listeners:
    """A device of each user, with a tree watch on each tree that the user may read."""

    def __init__(self, devices: dict[User, Device], trees: list[bytes]) -> None:
        self._devices = devices
        self._trees: dict[tuple[User, int], bytes] = {}
        for user, device in devices.items():
            for tree in trees:
                with contextlib.suppress(PermissionError):
                    wd = device.add_watch(tree, IN_CREATE, tree=True)
                    self._trees[user, wd] = tree

    def watching(self) -> Places:
        """Return which trees each user watches."""
        tops: Places = {user: set() for user in self._devices}
        for (user, _), tree in self._trees.items():
            tops[user].add((tree, b""))
        return tops

    def heard(self) -> Places:
        """Return of which directories each user heard, through the tree watch on their top."""
        heard: Places = {user: set() for user in self._devices}
        for user, device in self._devices.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    for wd, mask, _, name in unpack(device.read(1 << 20)):
                        assert not mask & IN_Q_OVERFLOW
                        assert name is not None
                        heard[user].add((self._trees[user, wd], os.path.dirname(name)))
        return heard


@contextlib.contextmanager
def listening(socket: str, trees: list[bytes]) -> Iterator[tuple[Client, Listeners]]:
    with contextlib.ExitStack() as stack:
        devices = {}
        for user in USERS:
            with acting_as(user):
                client = stack.enter_context(Client(socket))
            devices[user] = client.init(nonblock=True)
        control = stack.enter_context(Client(socket))
        yield control, Listeners(devices, trees)


def differences(found: Places, expected: Places) -> list[str]:
    return [
        f"{user}: {os.fsdecode(b'/'.join(place))} is {'heard' if place in found[user] else 'not'}"
        for user in expected
        for place in sorted(found[user] ^ expected[user])
    ]


def change(chosen: random.Random, top: bytes, trees: list[bytes]) -> None:
    """Give directories other owners, modes and ACLs, and some another place in their tree."""
    for tree in trees:
        below = directories_of(top + b"/" + tree)[1:]
        for directory in below:
            if chosen.random() < 0.4:
                with contextlib.suppress(PermissionError):  # what the mount does not show
                    give_owner_and_mode(chosen, b"/".join([top, tree, directory]))
        if len(below) > 1 and chosen.random() < 0.5:
            one, other = chosen.sample(below, 2)
            with contextlib.suppress(OSError):  # into itself
                os.rename(b"/".join([top, tree, one]), b"/".join([top, tree, other, b"moved"]))


@pytest.mark.parametrize(
    ("seed", "options", "asked"),
    [
        pytest.param(1, ["acl"], "source", id="SOURCE"),
        pytest.param(2, ["acl"], "mnt", id="the mount"),
        pytest.param(3, [], "mnt", id="the mount, without ACLs"),
        pytest.param(4, ["uid=4002", "gid=4001"], "mnt", id="the mount, with owners of its own"),
    ],
)
def test_a_tree_tells_a_user_what_the_users_own_watches_could(
    public_path: Path, seed: int, options: list[str], asked: str
) -> None:
    chosen = random.Random(seed)
    source, mnt = (os.fsencode(public_path / name) for name in ("source", "mnt"))
    os.mkdir(source)
    os.mkdir(mnt)
    trees = [b"t%d" % number for number in range(TREES)]
    for tree in trees:
        Tree(chosen, source, tree, relative_links)
    judge = os.fsencode(public_path / asked)
    socket = str(public_path / "x.sock")
    with (
        fusenotify.mounted(
            os.fsdecode(source),
            os.fsdecode(mnt),
            options=["allow_other", *options],
            socket=socket,
            max_user_trees=TREES * len(USERS),
        ),
        listening(socket, trees) as (control, listeners),
    ):
        before = kernels_verdicts(judge, trees)
        tops = listeners.watching()
        assert tops == {user: {each for each in before[user] if not each[1]} for user in USERS}
        for changed in ("first", "through the mount", "again", "behind the mount"):
            if changed in ("through the mount", "again"):
                change(chosen, mnt, trees)
            elif changed == "behind the mount":
                change(chosen, source, trees)
                time.sleep(1.1)  # what a verdict may be old: nothing tells that it passed
            may = kernels_verdicts(judge, trees)
            for tree in trees:
                for below in directories_of(source + b"/" + tree):
                    path = b"/".join([mnt, tree, below, changed.encode()])
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            control.sync()
            # Of a watched top itself what counts is when the watch was made.
            expected = {
                user: {
                    (tree, below)
                    for tree, below in may[user]
                    if below and (tree, b"") in tops[user]
                }
                | tops[user]
                for user in USERS
            }
            assert not differences(listeners.heard(), expected), changed
    counts = {user: sum(bool(place[1]) for place in may[user]) for user in USERS}
    assert any(0 < counts[user] < counts[USERS[0]] for user in USERS)
