# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes made directly to SOURCE show in the mount, and leave no error behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.events import unpack
from fusenotify.masks import IN_ACCESS, IN_CREATE, IN_MODIFY
from tests.conftest import Mounting

pytestmark = pytest.mark.mount

TIMEOUT = 0.2


@pytest.fixture(params=[0.0, TIMEOUT], ids=["not cached", "cached"])
def mount(request: pytest.FixtureRequest, mounting: Mounting) -> Iterator[Mounted]:
    with mounting(attr_timeout=request.param, entry_timeout=request.param) as mount:
        yield mount


def soon(condition: Callable[[], bool]) -> bool:
    """Return whether it comes true within the longest timeout, and a second for slow machines."""
    tick = threading.Event()
    return any(condition() or tick.wait(TIMEOUT / 4) for _ in range(24))


def places(mount: Mounted) -> tuple[Path, Path]:
    return Path(mount.source), Path(mount.mountpoint)


def test_a_new_file_shows_at_once(mount: Mounted) -> None:
    source, top = places(mount)
    assert not (top / "f").exists()
    (source / "f").write_text("new")
    assert (top / "f").read_text() == "new"


def test_written_data_shows(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "f").write_text("before")
    (top / "f").stat()
    (source / "f").write_text("afterwards")
    assert soon(lambda: (top / "f").stat().st_size == len("afterwards"))
    assert (top / "f").read_text() == "afterwards"
    (source / "f").chmod(0o600)
    assert soon(lambda: (top / "f").stat().st_mode & 0o777 == 0o600)


def test_written_data_shows_to_programs_that_have_the_file_open(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "f").write_text("before")
    with open(top / "f") as file:
        assert file.read() == "before"
        with open(source / "f", "a") as behind:
            behind.write(" and after")
        assert soon(lambda: os.fstat(file.fileno()).st_size == len("before and after"))
        assert file.read() == " and after"


def test_a_file_replaced_by_another_shows(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "f").write_text("before")
    (source / "new").write_text("afterwards")
    (source / "new").rename(source / "f")
    assert soon(lambda: (top / "f").read_text() == "afterwards")
    (top / "f").write_text("by the mount")
    assert (source / "f").read_text() == "by the mount"


def test_a_file_replaced_by_a_directory_shows(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "x").write_text("file")
    (source / "x").unlink()
    (source / "x").mkdir()
    (source / "x" / "f").write_text("below")
    assert soon(lambda: (top / "x").is_dir())
    assert (top / "x" / "f").read_text() == "below"


def test_removed_names_disappear(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "s").mkdir()
    (top / "s" / "f").write_text("content")
    (source / "s" / "f").unlink()
    assert soon(lambda: not (top / "s" / "f").exists())
    assert os.listdir(top / "s") == []
    (source / "s").rmdir()
    assert soon(lambda: not (top / "s").exists())
    (top / "s").mkdir()
    (top / "s" / "f").write_text("again")
    assert (source / "s" / "f").read_text() == "again"


def test_renames_of_directories_do_not_break_what_is_below(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "c" / "f").write_text("content")
    with open(top / "a" / "b" / "c" / "f", "r+") as file:
        (source / "a").rename(source / "z")
        (source / "z" / "b").rename(source / "b")
        file.seek(0, os.SEEK_END)
        file.write(", more")
        file.flush()
        assert os.fstat(file.fileno()).st_size == len("content, more")
        assert soon(lambda: (top / "b" / "c" / "f").exists())
    assert (top / "b" / "c" / "f").read_text() == "content, more"
    assert soon(lambda: not (top / "a").exists())
    assert os.listdir(top / "z") == []
    (top / "b" / "c" / "g").touch()
    assert sorted(os.listdir(source / "b" / "c")) == ["f", "g"]


def test_a_program_inside_a_directory_renamed_behind_it_goes_on(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "a" / "b").mkdir(parents=True)
    inside = os.open(top / "a" / "b", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (source / "a").rename(source / "z")
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=inside))
        assert os.listdir(inside) == ["f"]
        os.rename("f", "g", src_dir_fd=inside, dst_dir_fd=inside)
    finally:
        os.close(inside)
    assert os.listdir(source / "z" / "b") == ["g"]


def test_a_watch_stays_with_an_object_renamed_behind_the_mount(mount: Mounted) -> None:
    source, top = places(mount)
    (top / "a").mkdir()
    with mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/a", IN_CREATE | IN_MODIFY)
        (source / "a").rename(source / "z")
        (top / "z" / "f").write_text("x")
        client.sync()
        heard = [(event.mask, event.name) for event in unpack(device.read(4096))]
        assert heard == [(IN_CREATE, b"f"), (IN_MODIFY, b"f")]


def test_exclusive_remembers_names_and_attributes(mounting: Mounting) -> None:
    with mounting(exclusive=True) as mount:
        source, top = places(mount)
        (top / "f").write_text("known")
        assert (top / "f").stat().st_size == 5
        assert not (top / "absent").exists()
        (source / "f").write_text("known and longer")
        (source / "absent").touch()
        # What the option says does not happen is not seen: the kernel did not ask.
        assert (top / "f").stat().st_size == 5
        assert not (top / "absent").exists()


def test_exclusive_remembers_read_data(mounting: Mounting) -> None:
    def read(path: Path) -> bytes:
        """Read without a stat, from which the kernel would see that SOURCE has changed."""
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)

    with mounting(exclusive=True) as mount:
        source, top = places(mount)
        (top / "f").write_bytes(b"known")
        assert read(top / "f") == b"known"
        (source / "f").write_bytes(b"other")
        assert read(top / "f") == b"known"
        (top / "f").write_bytes(b"third")
        assert read(top / "f") == b"third"


@pytest.mark.parametrize("tree", [False, True], ids=["a watch", "a tree watch"])
def test_exclusive_tells_every_watch_of_every_open_file_that_reads(
    mounting: Mounting, tree: bool
) -> None:
    with mounting(exclusive=True) as mount, mount.client() as client:
        _, top = places(mount)
        (top / "d").mkdir()
        (top / "d" / "f").write_text("known")
        (top / "d" / "f").read_text()
        device = client.init(nonblock=True)
        device.add_watch("/" if tree else "d", IN_ACCESS, tree=tree)
        for _ in range(2):
            (top / "d" / "f").read_text()
            client.sync()
            assert [(event.mask, event.name) for event in unpack(device.read(4096))] == [
                (IN_ACCESS, b"d/f" if tree else b"f")
            ]


def test_exclusive_sees_all_that_the_mount_does(mounting: Mounting) -> None:
    with mounting(exclusive=True) as mount:
        _, top = places(mount)
        assert not (top / "f").exists()
        (top / "f").write_text("a")
        assert (top / "f").read_text() == "a"
        os.link(top / "f", top / "g")
        with open(top / "g", "a") as file:
            file.write("bc")
        assert (top / "f").stat().st_size == 3
        assert (top / "f").stat().st_nlink == 2
        (top / "f").rename(top / "h")
        assert not (top / "f").exists()
        (top / "g").unlink()
        assert (top / "h").stat().st_nlink == 1
        (top / "h").chmod(0o640)
        assert (top / "h").stat().st_mode & 0o777 == 0o640
        os.setxattr(top / "h", "user.x", b"y")
        assert os.listxattr(top / "h") == ["user.x"]
        assert os.listdir(top) == ["h"]


def test_a_timeout_given_with_exclusive_counts(mounting: Mounting) -> None:
    with mounting(exclusive=True, attr_timeout=0) as mount:
        source, top = places(mount)
        (top / "f").write_text("known")
        assert (top / "f").stat().st_size == 5
        (source / "f").write_text("known and longer")
        assert (top / "f").stat().st_size == 16
