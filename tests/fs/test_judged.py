# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done is what the kernel judged, whatever came up in SOURCE since it looked.

The mounts are exclusive, so that the kernel goes by what it remembers, and
SOURCE is changed all the same.  docs/security.md has the table of requests.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

import fusenotify
from tests.differential.operations import RENAME_EXCHANGE, renameat2
from tests.differential.scenario import as_user

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others"),
]

USER = 4321
CREATE = os.O_CREAT | os.O_RDWR


class Places(NamedTuple):
    """A directory that all may write to, in SOURCE and through the mount."""

    source: Path
    mnt: Path


@pytest.fixture
def places(public_path: Path) -> Iterator[Places]:
    source, mnt = public_path / "source", public_path / "mnt"
    for place in (source, mnt):
        place.mkdir()
        place.chmod(0o777)
    with fusenotify.mounted(source, mnt, exclusive=True, options=["allow_other"]):
        yield Places(source, mnt)


@pytest.fixture
def sticky(places: Places) -> Places:
    """The same, where only its owner may remove something."""
    places.mnt.chmod(0o1777)
    return places


def own(path: Path, uid: int) -> Path:
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


def make(path: Path, uid: int, mode: int = 0o644, content: str = "") -> Path:
    """Make a file of somebody's."""
    path.write_text(content)
    path.chmod(mode)
    return own(path, uid)


def replace(places: Places, name: str, kind: Callable[[Path], object]) -> None:
    """Make a user's object that the kernel remembers at a name, and something of root's there."""
    kind(places.mnt / name)
    own(places.mnt / name, USER)
    (places.mnt / name).lstat()
    (places.source / name).rename(places.source / "away")
    kind(places.source / name)


def come_up(places: Places, make: Callable[[Path], object]) -> Path:
    """Have the kernel remember that there is no x, and make it in SOURCE."""
    assert not (places.mnt / "x").exists()
    make(places.source / "x")
    return places.mnt / "x"


# Creating.


def test_a_file_that_came_up_is_for_whom_its_mode_says(places: Places) -> None:
    secret = partial(make, uid=0, mode=0o600, content="root's")
    x = come_up(places, secret)
    assert as_user(USER, lambda: os.open(x, CREATE, 0o666)) == "EACCES"
    with open(os.open(x, CREATE), "rb") as file:
        assert file.read() == b"root's"


def test_a_file_that_came_up_is_opened_where_that_is_permitted(places: Places) -> None:
    x = come_up(places, partial(make, uid=0, mode=0o666, content="everybody's"))

    def add() -> None:
        with open(os.open(x, CREATE | os.O_APPEND), "wb") as file:
            file.write(b", and more")

    assert as_user(USER, add) == "ok"
    assert (places.source / "x").read_text() == "everybody's, and more"


def test_a_file_that_came_up_is_there_already_for_who_wants_a_new_one(places: Places) -> None:
    x = come_up(places, Path.touch)
    with pytest.raises(FileExistsError):
        os.open(x, CREATE | os.O_EXCL)
    assert x.exists()


def test_what_came_up_is_opened_as_what_it_is(places: Places) -> None:
    with pytest.raises(IsADirectoryError):
        os.open(come_up(places, Path.mkdir), CREATE)
    (places.source / "x").rmdir()


def test_a_fifo_that_came_up_keeps_nobody_waiting_but_who_opens_it(places: Places) -> None:
    x = come_up(places, os.mkfifo)
    fd = os.open(x, CREATE | os.O_NONBLOCK)
    assert stat.S_ISFIFO(os.fstat(fd).st_mode)
    os.close(fd)
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
        os.open(x, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK)


def test_a_link_that_came_up_is_followed_by_the_kernel(places: Places) -> None:
    x = come_up(places, lambda path: path.symlink_to("target"))
    os.close(os.open(x, CREATE))
    assert (places.source / "target").is_file()
    assert (places.source / "x").is_symlink()


# Removing and renaming.


def remove_file(places: Places) -> None:
    (places.mnt / "x").unlink()


def remove_directory(places: Places) -> None:
    (places.mnt / "x").rmdir()


def rename(places: Places) -> None:
    (places.mnt / "x").rename(places.mnt / "y")


def rename_over(places: Places) -> None:
    (places.mnt / "users").rename(places.mnt / "x")


def exchange(places: Places) -> None:
    renameat2(places.mnt / "users", places.mnt / "x", RENAME_EXCHANGE)


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (remove_file, Path.touch),
        (remove_directory, Path.mkdir),
        (rename, Path.touch),
        (rename_over, Path.touch),
        (exchange, Path.touch),
    ],
)
def test_in_a_sticky_directory_roots_object_stays_where_it_came_up(
    sticky: Places, act: Callable[[Places], None], kind: Callable[[Path], object]
) -> None:
    make(sticky.mnt / "users", USER)
    replace(sticky, "x", kind)
    came_up = (sticky.source / "x").stat().st_ino
    assert as_user(USER, lambda: act(sticky)) == "EPERM"
    assert (sticky.source / "x").stat().st_ino == came_up
    act(sticky)  # root may
    present = (sticky.source / "x").exists() and (sticky.source / "x").stat().st_ino
    assert present != came_up


@pytest.mark.parametrize("act", [remove_file, rename, rename_over, exchange])
def test_in_a_sticky_directory_source_judges_whose_an_object_is_by_now(
    sticky: Places, act: Callable[[Places], None]
) -> None:
    make(sticky.mnt / "users", USER)
    make(sticky.mnt / "x", USER)
    own(sticky.source / "x", 0)  # the kernel remembers another owner
    assert (sticky.mnt / "x").stat().st_uid == USER
    assert as_user(USER, lambda: act(sticky)) == "EPERM"
    assert (sticky.source / "x").exists()


def test_users_do_in_sticky_directories_what_they_may(sticky: Places) -> None:
    for name in ("a", "b", "c"):
        make(sticky.mnt / name, USER)
    own(sticky.mnt, USER + 1)
    make(sticky.mnt / "d", 0)
    assert as_user(USER, (sticky.mnt / "a").unlink) == "ok"
    assert as_user(USER, lambda: (sticky.mnt / "b").rename(sticky.mnt / "c")) == "ok"
    assert as_user(USER + 1, (sticky.mnt / "c").unlink) == "ok"  # its owner
    assert as_user(USER + 1, (sticky.mnt / "d").unlink) == "ok"
    assert list(sticky.source.iterdir()) == []


def test_a_directory_of_roots_that_came_up_is_not_moved_elsewhere(places: Places) -> None:
    (places.mnt / "elsewhere").mkdir()
    (places.mnt / "elsewhere").chmod(0o777)
    replace(places, "x", Path.mkdir)
    target = places.mnt / "elsewhere" / "x"
    assert as_user(USER, lambda: (places.mnt / "x").rename(target)) == "EACCES"
    assert (places.source / "x").exists()


def test_a_file_that_is_roots_by_now_gets_no_further_name(places: Places) -> None:
    """As fs.protected_hardlinks has it in SOURCE."""
    x = make(places.mnt / "x", USER)
    own(places.source / "x", 0)
    (places.source / "x").chmod(0o4755)
    assert as_user(USER, lambda: os.link(x, places.mnt / "y")) == "EPERM"
    os.link(x, places.mnt / "y")
