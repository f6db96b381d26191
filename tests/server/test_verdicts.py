# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may watch what: our verdict beside the kernel's, for random trees, users and paths.

The kernel is asked by inotify_add_watch(2) in the user's name: on SOURCE, before
it is mounted over itself, so that absolute links mean the same; or through the
mount, which may show other owners and modes, and enforce ACLs or not.  The
daemon is asked through its socket in the user's name.  What leaves the tree is
told by openat2(2) with RESOLVE_BENEATH.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fusenotify
from fusenotify.client import Client
from fusenotify.masks import IN_ALL_EVENTS, IN_DONT_FOLLOW, IN_ONLYDIR
from tests.server.acting import User, acting_as
from tests.server.verdict_trees import IDS, TREES, Tree, absolute_links, long_chain, relative_links

QUESTIONS = 30
PROTECTED_SYMLINKS = Path("/proc/sys/fs/protected_symlinks")

pytestmark = pytest.mark.mount

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_OPENAT2 = 437
_RESOLVE_BENEATH = 0x08


class Question(NamedTuple):
    user: User
    path: bytes
    mask: int
    may_leave: bool  # has links that openat2(2) can judge


USERS = [
    User(0, 0, ()),
    User(0, IDS[0], (IDS[1],)),
    User(IDS[0], IDS[0], ()),
    User(IDS[1], IDS[1], (IDS[0], IDS[2])),
    User(IDS[2], IDS[0], (IDS[3],)),
    User(IDS[3], IDS[2], tuple(range(7000, 7100))),
]


def leaves(source: bytes, question: Question) -> bool:
    """Return whether the kernel says that a path leaves source."""
    root = os.open(source, os.O_PATH)
    flags = os.O_PATH | os.O_CLOEXEC
    if question.mask & IN_DONT_FOLLOW:
        flags |= os.O_NOFOLLOW
    how = struct.pack("=QQQ", flags, 0, _RESOLVE_BENEATH)
    path = question.path.lstrip(b"/") or b"."
    try:
        code = errno.EAGAIN
        while code == errno.EAGAIN:  # something was renamed or mounted meanwhile, anywhere
            found = _libc.syscall(_SYS_OPENAT2, root, path, how, len(how))
            code = 0 if found >= 0 else ctypes.get_errno()
    finally:
        os.close(root)
    if found >= 0:
        os.close(found)
    return found < 0 and code == errno.EXDEV


def kernels_verdict(inotify: int, source: bytes, question: Question) -> int:
    """Return 0 or the errno of inotify_add_watch(2)."""
    if question.may_leave and leaves(source, question):
        return errno.EXDEV
    path = source + b"/" + question.path
    wd = _libc.inotify_add_watch(inotify, path, ctypes.c_uint32(question.mask))
    return 0 if wd > 0 else ctypes.get_errno()


def kernels_verdicts(source: bytes, questions: list[Question]) -> list[int]:
    inotify = _libc.inotify_init1(os.O_CLOEXEC)
    try:
        verdicts = []
        for question in questions:
            with acting_as(question.user):
                verdicts.append(kernels_verdict(inotify, source, question))
        return verdicts
    finally:
        os.close(inotify)


def our_verdicts(socket: str, questions: list[Question]) -> list[int]:
    with contextlib.ExitStack() as stack:
        devices = {}
        for user in USERS:
            with acting_as(user):
                client = stack.enter_context(Client(socket))
            devices[user] = client.init()
        verdicts = []
        for question in questions:
            try:
                devices[question.user].add_watch(question.path, question.mask)
                verdicts.append(0)
            except OSError as refusal:
                verdicts.append(refusal.errno or -1)
        return verdicts


def questions_about(chosen: random.Random, tree: Tree, may_leave: bool) -> list[Question]:
    flags = [0, 0, IN_DONT_FOLLOW, IN_ONLYDIR, IN_DONT_FOLLOW | IN_ONLYDIR]
    return [
        Question(
            chosen.choice(USERS),
            tree.path(chosen, may_leave=may_leave),
            IN_ALL_EVENTS | chosen.choice(flags),
            may_leave,
        )
        for _ in range(QUESTIONS)
    ]


@contextlib.contextmanager
def symlinks_protected(value: str) -> Iterator[None]:
    """Set the machine's fs.protected_symlinks."""
    before = PROTECTED_SYMLINKS.read_text()
    if before.strip() == value:
        yield
        return
    try:
        PROTECTED_SYMLINKS.write_text(value)
    except OSError as refusal:
        pytest.skip(f"fs.protected_symlinks cannot be {value} here: {refusal}")
    try:
        yield
    finally:
        PROTECTED_SYMLINKS.write_text(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")
@pytest.mark.parametrize(("seed", "protected"), [(1, "0"), (2, "1")])
def test_each_verdict_is_the_kernels(public_path: Path, seed: int, protected: str) -> None:
    chosen = random.Random(seed)
    source = os.fsencode(public_path / "source")
    questions = trees_with_questions(chosen, source, TREES)
    with symlinks_protected(protected):
        expected = kernels_verdicts(source, questions)
        socket = str(public_path / "x.sock")
        with fusenotify.mounted(
            os.fsdecode(source), options=["allow_other", "acl"], socket=socket
        ) as mounted:
            found = our_verdicts(mounted.socket, questions)
    expect_the_same(questions, expected, found)
    assert {0, errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV} <= {*expected}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")
@pytest.mark.parametrize("acl", [True, False], ids=["with acl", "without"])
@pytest.mark.parametrize(
    "shown",
    [[], [f"uid={IDS[0]}"], [f"gid={IDS[1]}"], ["umask=027"], [f"uid={IDS[2]}", "umask=07"]],
    ids=lambda shown: ",".join(shown) or "as it is",
)
def test_each_verdict_is_that_of_the_mount(public_path: Path, shown: list[str], acl: bool) -> None:
    source = os.fsencode(public_path / "source")
    questions = trees_with_questions(random.Random(3), source, TREES // 5)
    options = ["allow_other", *shown, *["acl"][: int(acl)]]
    socket = str(public_path / "x.sock")
    with fusenotify.mounted(os.fsdecode(source), options=options, socket=socket) as mounted:
        expected = kernels_verdicts(source, questions)
        found = our_verdicts(mounted.socket, questions)
    expect_the_same(questions, expected, found)
    assert {0, errno.EACCES} <= {*expected}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")
@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="keeps long lists in tmpfs")
def test_a_list_longer_than_the_mount_takes_is_e2big(public_path: Path) -> None:
    entries = [(1, 7, 0), *((2, 7, 9000 + number) for number in range(1000))]
    entries += [(4, 7, 0), (16, 7, 0), (32, 7, 0)]
    long = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    socket = str(public_path / "x.sock")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        os.chmod(scratch, 0o755)
        source = os.fsencode(scratch) + b"/source"
        os.makedirs(source + b"/long/below")
        os.setxattr(source + b"/long", "system.posix_acl_access", long)
        paths = b"long", b"long/below"
        questions = [Question(USERS[2], path, IN_ALL_EVENTS, False) for path in paths]
        for options, verdict in ((["acl"], errno.E2BIG), ([], 0)):
            with fusenotify.mounted(
                os.fsdecode(source), options=["allow_other", *options], socket=socket
            ) as mounted:
                expected = kernels_verdicts(source, questions)
                found = our_verdicts(mounted.socket, questions)
            assert (expected, found) == ([verdict] * 2,) * 2, options


def trees_with_questions(chosen: random.Random, source: bytes, trees: int) -> list[Question]:
    """Make a directory with so many trees of each kind; return what to ask about them."""
    os.mkdir(source)
    questions = [
        Question(user, path, IN_ALL_EVENTS | flag, True)
        for path in long_chain(source)
        for user in USERS[:3]
        for flag in (0, IN_DONT_FOLLOW)
    ]
    for number in range(trees):
        name = b"r%d" % number
        tree = Tree(chosen, source, name, relative_links)
        questions += questions_about(chosen, tree, may_leave=True)
        tree = Tree(chosen, source, b"a" + name, absolute_links)
        questions += questions_about(chosen, tree, may_leave=False)
    os.chmod(source, chosen.choice([0o755, 0o711]))
    return questions


def expect_the_same(questions: list[Question], expected: list[int], found: list[int]) -> None:
    names = {0: "watched", **errno.errorcode}
    differing = [
        f"{question}: the kernel says {names[theirs]}, we say {names[ours]}"
        for question, theirs, ours in zip(questions, expected, found, strict=True)
        if theirs != ours
    ]
    assert not differing, f"{len(differing)} of {len(questions)}:\n" + "\n".join(differing[:40])
