# SPDX-License-Identifier: GPL-2.0-or-later
"""Inotify takes ordinary paths; the mount's place in the tree is its own business."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusenotify.client import ConnectionLost, Inotify, InotifyEvent
from fusenotify.client.locate import SOCKET_VARIABLE, SOCKET_XATTR, Place, locate
from fusenotify.client.watched import WatchedPaths
from fusenotify.events import Event, pack
from fusenotify.masks import (
    IN_ALL_EVENTS,
    IN_ATTRIB,
    IN_CREATE,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_ISDIR,
    IN_Q_OVERFLOW,
)
from fusenotify.mountinfo import FSTYPE, Mount
from tests.client.running import Running
from tests.conftest import Mounting


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A directory that stands for a mount that this process cannot see as one."""
    path = tmp_path / "mnt"
    (path / "docs").mkdir(parents=True)
    (path / "link").symlink_to("docs")
    return path.resolve()


@pytest.fixture
def mountpoint(mounted: Path) -> bytes:
    return os.fsencode(mounted)


@pytest.fixture
def served(running: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setenv(SOCKET_VARIABLE, running.socket)
    running.make("docs", directory=True)
    running.make("link", target=b"docs")
    return running


@pytest.fixture
def inotify(served: Running) -> Iterator[Inotify]:
    with Inotify() as inotify:
        yield inotify


def test_events_have_the_path_that_was_watched(
    served: Running, inotify: Inotify, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mounted)
    relative = inotify.add_watch("docs", IN_CREATE)
    absolute = inotify.add_watch(mounted, IN_ALL_EVENTS)
    served.make("docs/a", "b")
    inotify.sync()
    assert inotify.read(timeout=1.0) == [
        InotifyEvent(relative, IN_CREATE, 0, "a", "docs/a"),
        InotifyEvent(absolute, IN_CREATE, 0, "b", f"{mounted}/b"),
    ]


def test_events_of_a_tree_have_the_path_of_their_object(
    served: Running, inotify: Inotify, mounted: Path
) -> None:
    inner = served.do(served.tree.make, "docs/a", directory=True)
    wd = inotify.add_watch(f"{mounted}/docs/", IN_CREATE | IN_ATTRIB, tree=True)
    served.make("docs/a/f")
    served.do(served.tree.hooks.xattr_changed, inner)
    inotify.sync()
    docs = f"{mounted}/docs/"
    changed = IN_ATTRIB | IN_ISDIR
    assert inotify.read(timeout=1.0) == [
        InotifyEvent(wd, IN_CREATE, 0, "a/f", docs + "a/f"),
        InotifyEvent(wd, changed, 0, "a", docs + "a"),
        InotifyEvent(wd, changed, 0, "a/", docs + "a"),
    ]


def test_a_link_is_resolved_unless_it_is_to_be_watched_itself(
    served: Running, inotify: Inotify, mounted: Path
) -> None:
    followed = inotify.add_watch(mounted / "link", IN_ALL_EVENTS)
    assert inotify.add_watch(mounted / "docs", IN_ALL_EVENTS) == followed
    assert inotify.add_watch(mounted / "link", IN_ALL_EVENTS | IN_DONT_FOLLOW) != followed


def test_a_removed_watch_ends_with_ignored(inotify: Inotify, mounted: Path) -> None:
    wd = inotify.add_watch(mounted, IN_ALL_EVENTS)
    inotify.rm_watch(wd)
    assert inotify.read() == [InotifyEvent(wd, IN_IGNORED, 0, None, str(mounted))]


def test_a_read_without_events_gives_nothing_in_time(inotify: Inotify, mounted: Path) -> None:
    inotify.add_watch(mounted, IN_ALL_EVENTS)
    assert inotify.read(timeout=0) == []
    assert inotify.read(timeout=0.01) == []


def test_options_reach_the_device(served: Running, mounted: Path) -> None:
    with Inotify(socket=served.socket, max_queued_events=1, semantics="linux-2.6.18") as inotify:
        inotify.add_watch(mounted, IN_CREATE)
        served.make("a", "b")
        assert inotify.read()[1] == InotifyEvent(-1, IN_Q_OVERFLOW, 0, None, "")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("mnt/none", errno.ENOENT, id="a missing path"),
        pytest.param("", errno.ENOENT, id="an empty path"),
        pytest.param("mnt/\0", errno.EINVAL, id="a NUL"),
        pytest.param("x" * 5000, errno.ENAMETOOLONG, id="a path too long"),
        pytest.param("/etc/passwd", errno.EXDEV, id="outside"),
    ],
)
def test_a_path_that_cannot_be_watched_is_refused_as_it_was_given(
    inotify: Inotify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as refused:  # noqa: PT011  (the errno is compared)
        inotify.add_watch(path, IN_CREATE)
    assert refused.value.errno == code
    assert refused.value.filename in (path, None)
    as_bytes: Any = os.fsencode(path)
    with pytest.raises(OSError) as refused:  # noqa: PT011
        inotify.add_watch(as_bytes, IN_CREATE)
    assert refused.value.errno == code
    assert refused.value.filename in (as_bytes, None)


def test_without_a_mount_the_error_says_what_to_do(tmp_path: Path) -> None:
    with (
        Inotify() as inotify,
        pytest.raises(OSError, match=r"not on a fusenotify mount.*fusenotify mount"),
    ):
        inotify.add_watch(tmp_path, IN_CREATE)


def test_nothing_can_be_read_before_something_is_watched() -> None:
    with Inotify() as inotify:
        inotify.sync()
        with pytest.raises(OSError, match="nothing is watched"):
            inotify.read()


def test_a_closed_inotify_is_a_bad_descriptor(inotify: Inotify, mounted: Path) -> None:
    inotify.add_watch(mounted, IN_CREATE)
    inotify.close()
    inotify.close()
    for call in (inotify.read, inotify.sync):
        with pytest.raises(OSError, match="closed") as refused:
            call()
        assert refused.value.errno == errno.EBADF


def test_the_end_of_the_daemon_is_told(served: Running, inotify: Inotify, mounted: Path) -> None:
    inotify.add_watch(mounted, IN_CREATE)
    served.stop()
    with pytest.raises(ConnectionLost):
        inotify.read()


# Finding.


def the_mount(mountpoint: bytes, root: bytes = b"/") -> Mount:
    return Mount(1, 0, "0:50", root, mountpoint, FSTYPE, b"/srv/x")


@pytest.mark.parametrize(
    ("path", "mount", "inner"),
    [
        pytest.param(b"/mnt/x/docs/a", the_mount(b"/mnt/x"), b"/docs/a", id="in the mount"),
        pytest.param(b"/mnt/x", the_mount(b"/mnt/x"), b"/", id="its root"),
        pytest.param(b"/home/d/a", the_mount(b"/home/d", b"/docs"), b"/docs/a", id="a bind mount"),
        pytest.param(b"/mnt/daemons/a", None, b"/a", id="a mount that is not visible here"),
        pytest.param(b"/mnt/daemons", None, b"/", id="the root of one"),
    ],
)
def test_a_path_is_told_to_the_daemon_as_the_daemon_knows_it(
    path: bytes, mount: Mount | None, inner: bytes
) -> None:
    assert Place(path, mount, "x.sock").inner_path(b"/mnt/daemons") == inner


def test_one_inotify_serves_one_mount() -> None:
    place = Place(b"/mnt/x", the_mount(b"/mnt/x"), "x.sock")
    other = Place(b"/mnt/y", the_mount(b"/mnt/y"), "y.sock")
    place.check_same_mount(place)
    with pytest.raises(OSError, match="one Inotify for each mount") as refused:
        place.check_same_mount(other)
    assert refused.value.errno == errno.EXDEV


def test_the_mount_says_where_its_socket_is(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any filesystem with attributes can say it; that it is a mount of ours is claimed here."""
    monkeypatch.setattr(
        "fusenotify.client.locate.mount_of_descriptor",
        lambda _: the_mount(os.fsencode(mounted)),
    )
    try:
        os.setxattr(mounted, SOCKET_XATTR, b"/run/x.sock")
    except OSError as error:
        pytest.skip(f"{mounted} takes no attributes: {error}")
    os.setxattr(mounted / "docs", SOCKET_XATTR, b"/run/x.sock")
    os.mkfifo(mounted / "fifo")
    for path, follow in (("docs", True), ("link", True), ("link", False), ("fifo", True)):
        place = locate(mounted / path, follow=follow)
        assert place.socket == "/run/x.sock"
        resolved = "docs" if follow and path == "link" else path
        assert place.inner_path(b"") == b"/" + os.fsencode(resolved)


def test_paths_are_forgotten_with_their_watches() -> None:
    paths = WatchedPaths()
    paths.add(1, b"/mnt/x")
    ignored, late = pack(Event(1, IN_IGNORED)), pack(Event(1, IN_CREATE, 0, b"a"))
    assert [event.path for event in paths.converted(late + ignored + late)[0]] == [
        b"/mnt/x/a",
        b"/mnt/x",
        b"a",
    ]


@pytest.mark.mount
@pytest.mark.parametrize("semantics", ["linux-2.6.18", "linux-6"])
def test_a_path_that_is_longer_than_any_that_can_be_opened_comes_whole(
    mounting: Mounting, semantics: str
) -> None:
    depth, name = 300, "d" * 250
    with mounting() as mount, Inotify(semantics=semantics) as inotify:
        inotify.add_watch(mount.mountpoint, IN_CREATE, tree=True)
        above = os.open(mount.mountpoint, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=above)
            below = os.open(name, os.O_RDONLY, dir_fd=above)
            os.close(above)
            above = below
        os.close(above)
        told: list[InotifyEvent] = []
        while len(told) < depth:
            told += inotify.read(timeout=10.0) or pytest.fail("no more events came")
        assert told[-1].name == "/".join([name] * depth)
        subprocess.run(["rm", "-r", f"{mount.mountpoint}/{name}"], check=True)
