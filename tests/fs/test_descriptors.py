# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors of inodes are bounded, and what was closed is opened again as the same object."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fusenotify import Mounted
from fusenotify.client import Client
from fusenotify.engine.core import Core
from fusenotify.engine.hooks import Hooks
from fusenotify.engine.shares import Shares
from fusenotify.events import unpack
from fusenotify.fs import file_handles
from fusenotify.fs.descriptors import KEPT
from fusenotify.fs.file_handles import Compared
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.submounts import Submounts
from fusenotify.masks import IN_ATTRIB, IN_CREATE, IN_DELETE_SELF
from tests.conftest import Mounting

LIMIT = 64


@pytest.fixture(params=["by handle", "by name"])
def inodes(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inodes]:
    """A table of which few inodes have their descriptor open, over tmp_path/top."""
    if request.param == "by name":
        monkeypatch.setattr(file_handles, "_anchor", lambda root_fd: None)
    elif os.geteuid():
        pytest.skip("only root may open by handle")
    (tmp_path / "top").mkdir()
    table = Inodes(
        Submounts(os.open(tmp_path / "top", os.O_PATH)), Core(), descriptor_limit=4 * KEPT
    )
    if request.param == "by handle" and not table.descriptors.handles.opens:
        pytest.skip("this filesystem has no file handles")
    table.descriptors._ceiling = 1 << 20  # pytest's own descriptors do not count here
    yield table
    table.close()


def looked_up(inodes: Inodes, parent: Inode, *names: str) -> Inode:
    """What LOOKUP does, down a path."""
    for name in names:
        parent, _ = inodes.lookup(parent, os.fsencode(name))
        parent.lookups += 1
    return parent


def crowd(inodes: Inodes, top: Path) -> None:
    """Look up so many others that every descriptor not in use is closed."""
    for number in range(8 * KEPT):
        (top / f"crowd{number}").touch()
        looked_up(inodes, inodes.root, f"crowd{number}")


def test_no_more_than_half_of_the_limit_are_open(tmp_path: Path, inodes: Inodes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    crowd(inodes, tmp_path / "top")
    assert len(inodes) > 8 * KEPT
    assert len(os.listdir("/proc/self/fd")) - before == len(inodes.descriptors) == 2 * KEPT


def test_those_used_last_stay_open(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "top" / "a").touch()
    used = looked_up(inodes, inodes.root, "a")
    fd = used.fd
    for number in range(8 * KEPT):
        (tmp_path / "top" / str(number)).touch()
        looked_up(inodes, inodes.root, str(number))
        assert used.fd == fd


def test_a_closed_descriptor_is_opened_again(tmp_path: Path, inodes: Inodes) -> None:
    top = tmp_path / "top"
    (top / "s" / "t").mkdir(parents=True)
    (top / "s" / "t" / "a").write_text("content")
    (top / "s" / "t" / "l").symlink_to("nowhere")
    file = looked_up(inodes, inodes.root, "s", "t", "a")
    link = looked_up(inodes, inodes.root, "s", "t", "l")
    crowd(inodes, top)
    assert file.held < 0
    assert link.held < 0
    assert Path(file.path).read_text() == "content"
    assert os.readlink(b"", dir_fd=link.fd) == b"nowhere"


def test_one_more_closes_one_also_where_all_the_others_are_in_use(
    tmp_path: Path, inodes: Inodes
) -> None:
    top = tmp_path / "top"
    crowd(inodes, top)
    known = [inode for inode in inodes.all() if inode.held >= 0]
    for number in range(8 * KEPT, 16 * KEPT):
        for inode in known:
            inode.used = True
        (top / f"crowd{number}").touch()
        looked_up(inodes, inodes.root, f"crowd{number}")
        assert len(inodes.descriptors) == 2 * KEPT


def test_the_way_to_a_deep_directory_is_shorter_the_next_time(
    tmp_path: Path, inodes: Inodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0

    def open_counted(*args: Any, **options: Any) -> int:
        nonlocal opened
        opened += 1
        return really_open(*args, **options)

    above, directory = inodes.root, inodes.root
    for _ in range(300):
        os.mkdir("d", dir_fd=directory.fd)
        above, directory = directory, looked_up(inodes, directory, "d")
    crowd(inodes, tmp_path / "top")
    really_open = inodes.descriptors.open
    monkeypatch.setattr(inodes.descriptors, "open", open_counted)
    assert directory.fd >= 0
    first, opened = opened, 0
    assert above.fd >= 0
    if directory.handle is None or isinstance(directory.handle, Compared):
        assert first == 300
        assert opened <= 64
    else:
        assert first == 0


def test_a_deep_tree_is_reached_again(tmp_path: Path, inodes: Inodes) -> None:
    top = tmp_path / "top"
    here = os.open(top, os.O_PATH)
    directory = inodes.root
    for _ in range(400):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
        directory = looked_up(inodes, directory, "d")
    number = os.fstat(here).st_ino
    os.close(here)
    crowd(inodes, top)
    assert directory.held < 0
    assert os.fstat(directory.fd).st_ino == number


def test_a_removed_object_is_stale(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "top" / "a").touch()
    file = looked_up(inodes, inodes.root, "a")
    crowd(inodes, tmp_path / "top")
    (tmp_path / "top" / "a").unlink()
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        _ = file.fd


def test_a_new_object_with_an_old_number_is_another(tmp_path: Path, inodes: Inodes) -> None:
    top = tmp_path / "top"
    (top / "a").touch()
    old = looked_up(inodes, inodes.root, "a")
    crowd(inodes, top)
    (top / "a").unlink()
    for number in range(100):
        # Without a handle only the type tells them apart.
        if old.handle is None:
            (top / f"new{number}").mkdir()
        else:
            (top / f"new{number}").touch()
        if (top / f"new{number}").stat().st_ino == old.number:
            break
    else:
        pytest.skip("this filesystem does not give numbers again")
    new = looked_up(inodes, inodes.root, f"new{number}")
    assert new is not old
    assert new.number != old.number
    assert inodes[old.number] is old
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        _ = old.fd
    for inode in (old, new):
        inodes.forget(inode.number, 1)
    assert looked_up(inodes, inodes.root, f"new{number}").number == old.number


def test_renamed_behind_the_mount_it_is_reached_by_handle(tmp_path: Path, inodes: Inodes) -> None:
    (tmp_path / "top" / "a").write_text("content")
    file = looked_up(inodes, inodes.root, "a")
    crowd(inodes, tmp_path / "top")
    (tmp_path / "top" / "a").rename(tmp_path / "top" / "b")
    if isinstance(file.handle, Compared):
        assert looked_up(inodes, inodes.root, "b") is file
    assert Path(file.path).read_text() == "content"


def test_a_circle_of_names_is_stale_and_ends(tmp_path: Path, inodes: Inodes) -> None:
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    outer = looked_up(inodes, inodes.root, "a")
    inner = looked_up(inodes, outer, "b")
    (top / "a" / "b").rename(top / "b")
    (top / "a").rename(top / "b" / "a")
    looked_up(inodes, inner, "a")
    crowd(inodes, top)
    if isinstance(inner.handle, Compared):
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            _ = inner.fd
    else:
        assert os.path.samestat(os.fstat(inner.fd), os.stat(top / "b"))


def test_an_open_object_without_a_name_is_reached_through_the_open_file(
    tmp_path: Path, inodes: Inodes
) -> None:
    top = tmp_path / "top"
    (top / "a").write_text("content")
    file = looked_up(inodes, inodes.root, "a")
    fd = os.open(top / "a", os.O_RDONLY)
    inodes.descriptors.borrow = lambda held: fd if held is file else -1
    (top / "a").unlink()
    Hooks(Core()).unlinked(inodes.root, b"a", file, links=0)
    crowd(inodes, top)
    assert file.held < 0
    assert Path(file.path).read_text() == "content"
    os.close(fd)


def test_an_object_without_a_name_that_is_not_open_keeps_its_descriptor_within_a_share(
    tmp_path: Path, inodes: Inodes
) -> None:
    """The fixture's limit leaves two to them, of which their owner may have one."""
    top = tmp_path / "top"
    gone = []
    for number in range(3):
        (top / str(number)).write_text(str(number))
        gone.append(looked_up(inodes, inodes.root, str(number)))
        (top / str(number)).unlink()
        Hooks(Core()).unlinked(inodes.root, b"%d" % number, gone[-1], links=0)
    crowd(inodes, top)
    assert [inode.held >= 0 for inode in gone] == [False, False, True]
    assert Path(gone[2].path).read_text() == "2"
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        _ = gone[0].fd
    for inode in gone:
        inodes.forget(inode.number, 1)
    assert len(inodes.descriptors) == 2 * KEPT


def test_no_request_looks_through_the_open_descriptors(
    tmp_path: Path, inodes: Inodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[str]:
        raise AssertionError("the directory of descriptors was listed")

    monkeypatch.setattr(os, "listdir", refuse)
    descriptors = inodes.descriptors
    monkeypatch.setattr(descriptors, "_ceiling", 4 * KEPT)
    monkeypatch.setattr(descriptors, "shares", Shares(3 * KEPT))
    crowd(inodes, tmp_path / "top")
    opened = []
    for _ in range(3 * KEPT):
        opened.append(descriptors.open(os.fspath(tmp_path), os.O_RDONLY, uid=0))
        descriptors.shares.take(0)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        descriptors.open(os.fspath(tmp_path), os.O_RDONLY, uid=0)
    assert len(descriptors) == KEPT
    for fd in opened:
        os.close(fd)


def test_a_user_may_take_descriptors_that_are_free() -> None:
    shares = Shares(100)

    def take_all(uid: int) -> int:
        taken = 0
        while shares.may_take(uid):
            shares.take(uid)
            taken += 1
        return taken

    assert [take_all(uid) for uid in (1001, 1002, 1003)] == [50, 25, 13]
    assert take_all(0) == 12
    shares.give_back(1001)
    assert not shares.may_take(1001)
    assert shares.may_take(1004)


@pytest.fixture
def tightly(
    mounting: Mounting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractContextManager[Mounted]]:
    """Mount, with options, where the daemon may have LIMIT descriptors."""
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit(1) is missing")
    python = tmp_path / "limited-python"
    python.write_text(
        f"#!/bin/sh\nexec {prlimit} --nofile={LIMIT}:{LIMIT} '{sys.executable}' \"$@\"\n"
    )
    python.chmod(0o755)

    @contextlib.contextmanager
    def tight(*options: str) -> Iterator[Mounted]:
        with contextlib.ExitStack() as stack:
            with monkeypatch.context() as limited:
                limited.setattr(sys, "executable", str(python))
                mount = stack.enter_context(mounting(options=options))
            yield mount

    return tight


@pytest.fixture
def tight(tightly: Callable[..., AbstractContextManager[Mounted]]) -> Iterator[Mounted]:
    """Such a mount, for all users where root made it."""
    with tightly(*([] if os.geteuid() else ["allow_other"])) as mount:
        yield mount


def open_in(mount: Mounted) -> int:
    return len(os.listdir(f"/proc/{mount.pid}/fd"))


@pytest.mark.mount
def test_a_tree_of_many_times_the_limit_is_made_walked_and_removed(tight: Mounted) -> None:
    top = Path(tight.mountpoint)
    for number in range(20):
        (top / "tree" / str(number)).mkdir(parents=True)
        for file in range(20):
            (top / "tree" / str(number) / str(file)).write_text(f"{number} {file}")
    assert open_in(tight) <= LIMIT
    for number in range(20):
        (top / "tree" / str(number)).rename(top / "tree" / f"r{number}")
    for number in range(20):
        for file in range(20):
            read = (top / "tree" / f"r{number}" / str(file)).read_text()
            assert read == f"{number} {file}"
    assert sum(len(files) for _, _, files in os.walk(top)) == 400
    assert open_in(tight) <= LIMIT
    shutil.rmtree(top / "tree")
    assert os.listdir(tight.source) == []


@pytest.mark.mount
def test_a_program_that_opens_too_many_files_gets_emfile_and_others_go_on(tight: Mounted) -> None:
    top = Path(tight.mountpoint)
    opened: list[int] = []

    def open_all() -> None:
        while len(opened) < LIMIT:
            opened.append(os.open(top / str(len(opened)), os.O_WRONLY | os.O_CREAT))

    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        open_all()
    assert len(opened) > LIMIT // 5
    assert str(len(opened)) not in os.listdir(tight.source)  # refused, and not made
    (top / "s").mkdir()
    (top / "s").rename(top / "t")
    for fd in opened:
        os.write(fd, b"x")
        os.close(fd)
    assert (top / "0").read_text() == "x"
    with tight.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/t", IN_CREATE)
        (top / "t" / "f").touch()
        client.sync()
        assert [event.name for event in unpack(device.read(4096))] == [b"f"]


@pytest.mark.mount
def test_requests_that_wait_for_the_disk_take_few_descriptors(
    tightly: Callable[..., AbstractContextManager[Mounted]],
) -> None:
    with tightly("sync") as mount:
        tops = [Path(mount.mountpoint, str(number)) for number in range(100)]
        for top in tops:
            top.mkdir()

        def use(top: Path) -> None:
            (top / "d").mkdir()
            (top / "d").rename(top / "e")
            (top / "l").symlink_to("e")
            (top / "e").chmod(0o700)

        with ThreadPoolExecutor(len(tops)) as threads:
            list(threads.map(use, tops))
        assert open_in(mount) <= LIMIT
        assert [sorted(os.listdir(top)) for top in tops] == [["e", "l"]] * len(tops)


@contextlib.contextmanager
def being(uid: int) -> Iterator[None]:
    """A block in which what this process does through the mount is a user's."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_a_user_who_opens_all_that_he_may_leaves_others_some(tight: Mounted) -> None:
    (Path(tight.source) / "a").touch()
    top = os.open(tight.mountpoint, os.O_PATH)

    def open_all(uid: int) -> list[int]:
        opened: list[int] = []
        with being(uid), contextlib.suppress(OSError):
            while len(opened) < LIMIT:
                opened.append(os.open("a", os.O_RDONLY, dir_fd=top))
        return opened

    first = open_all(1001)
    assert LIMIT // 10 < len(first) < LIMIT // 4
    with being(1001), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        os.open("a", os.O_RDONLY, dir_fd=top)
    second = open_all(1002)
    assert len(second) > 1
    root = os.open("a", os.O_RDWR, dir_fd=top)
    for fd in first:
        os.close(fd)
    with tight.client() as client:
        client.sync()
    assert len(open_all(1001)) >= len(second), "what was closed is free again"
    for fd in (*second, root, top):
        os.close(fd)


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_a_users_connections_take_of_the_same_share_as_files(tight: Mounted) -> None:
    def connect_all(uid: int) -> list[Client]:
        clients: list[Client] = []
        with being(uid):
            while len(clients) < LIMIT:
                try:
                    clients.append(Client(tight.socket))
                except OSError as error:
                    refusal = str(error)
                    break
        assert f"user {uid} has used up the user's share of" in refusal
        return clients

    first = connect_all(1001)
    assert LIMIT // 10 < len(first) < LIMIT // 4
    second = connect_all(1002)
    assert len(second) > 1
    for client in (*first, *second):
        client.close()


@pytest.mark.mount
def test_many_objects_without_names_take_no_more_than_their_share(tight: Mounted) -> None:
    """An O_PATH descriptor holds an object in the kernel, and the daemon gets no open request."""
    top = Path(tight.mountpoint)
    held = []
    for number in range(LIMIT):
        (top / str(number)).mkdir()
        held.append(os.open(top / str(number), os.O_PATH))
        (top / str(number)).rmdir()
    for number in range(LIMIT):
        (top / f"f{number}").touch()
    assert open_in(tight) <= LIMIT
    with (top / "f0").open("w") as file:
        file.write("others go on")
    for fd in held:
        os.close(fd)


@pytest.mark.mount
def test_files_without_names_stay_what_they_are_while_they_are_open(tight: Mounted) -> None:
    top = Path(tight.mountpoint)
    files = []
    for number in range(LIMIT // 5):
        files.append((top / str(number)).open("w+"))
        (top / str(number)).unlink()
    for number in range(LIMIT):
        (top / f"f{number}").touch()
    for number, file in enumerate(files):
        file.write("x" * number)
        file.flush()
        os.fchmod(file.fileno(), 0o640)
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_mode & 0o777) == (number, 0o640)
        file.close()


@pytest.mark.mount
def test_watches_get_events_of_files_closed_and_opened_again(tight: Mounted) -> None:
    top = Path(tight.mountpoint)
    for number in range(2 * LIMIT):
        (top / str(number)).touch()
    with tight.client() as client:
        device = client.init(nonblock=True)
        wds = [
            device.add_watch(f"/{number}", IN_ATTRIB | IN_DELETE_SELF)
            for number in range(2 * LIMIT)
        ]
        for number in range(2 * LIMIT):
            (top / str(number)).chmod(0o600)
        client.sync()
        heard = list(unpack(device.read(1 << 16)))
        assert [(event.wd, event.mask) for event in heard] == [(wd, IN_ATTRIB) for wd in wds]


@pytest.mark.mount
def test_a_file_without_a_name_stays_what_it_is(tight: Mounted) -> None:
    top = Path(tight.mountpoint)
    with open(top / "gone", "w+") as file:
        (top / "gone").unlink()
        for number in range(2 * LIMIT):
            (top / str(number)).touch()
        file.write("still here")
        file.flush()
        os.fchmod(file.fileno(), 0o640)
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_mode & 0o777, status.st_nlink) == (10, 0o640, 0)
