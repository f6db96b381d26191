# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done is what the kernel judged, whatever came up in SOURCE since it looked.

The mounts are exclusive, so that the kernel goes by what it remembers, and
SOURCE is changed all the same.  docs/reference/security.md has the table of requests.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

import fusenotify
from tests.differential.operations import RENAME_EXCHANGE, renameat2
from tests.differential.scenario import as_user, outcome

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
    """Make the kernel remember that x does not exist, and create it in SOURCE."""
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


def test_an_exclusive_create_finds_the_copied_up_file(places: Places) -> None:
    x = come_up(places, Path.touch)
    with pytest.raises(FileExistsError):
        os.open(x, CREATE | os.O_EXCL)
    assert x.exists()


def test_a_copied_up_file_is_opened_as_it_is_now(places: Places) -> None:
    with pytest.raises(IsADirectoryError):
        os.open(come_up(places, Path.mkdir), CREATE)
    (places.source / "x").rmdir()


def test_a_copied_up_fifo_keeps_only_its_opener_waiting(places: Places) -> None:
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


def test_users_act_in_sticky_directories_as_on_linux(sticky: Places) -> None:
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
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "0":
        pytest.skip("this machine has fs.protected_hardlinks off")
    x = make(places.mnt / "x", USER)
    own(places.source / "x", 0)
    (places.source / "x").chmod(0o4755)
    assert as_user(USER, lambda: os.link(x, places.mnt / "y")) == "EPERM"
    os.link(x, places.mnt / "y")


# Owners.


def change_mode(x: Path) -> None:
    x.chmod(0o4777)


def change_mode_of_open(x: Path) -> None:
    fd = os.open(x, os.O_RDONLY)
    try:
        os.fchmod(fd, 0o4777)
    finally:
        os.close(fd)


def take_it(x: Path) -> None:
    os.chown(x, USER, -1)


def give_it_to_ones_group(x: Path) -> None:
    os.chown(x, -1, USER)


def set_acl(x: Path) -> None:
    entries = ((1, 7), (4, 7), (32, 7))
    acl = b"".join(struct.pack("<HHI", *entry, 0xFFFFFFFF) for entry in entries)
    os.setxattr(x, "system.posix_acl_access", struct.pack("<I", 2) + acl)


@pytest.mark.parametrize(
    "act", [change_mode, change_mode_of_open, take_it, give_it_to_ones_group, set_acl]
)
def test_a_file_that_root_owns_now_is_closed_to_its_former_owner(
    places: Places, act: Callable[[Path], None]
) -> None:
    x = make(places.mnt / "x", USER, 0o604)
    assert as_user(USER, lambda: act(x)) == "ok"
    x.unlink()
    x = make(places.mnt / "x", USER, 0o604)
    own(places.source / "x", 0)
    assert x.stat().st_uid == USER  # so the kernel remembers
    before = (places.source / "x").stat()
    went = as_user(USER, lambda: act(x))
    after = (places.source / "x").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, 0, 0)
    assert went == "EPERM" or act is take_it


def test_roots_sticky_directory_by_now_gets_no_users_attribute(places: Places) -> None:
    x = places.mnt / "x"
    x.mkdir()
    x.chmod(0o1777)
    own(x, USER)
    assert as_user(USER, lambda: os.setxattr(x, "user.a", b"1")) == "ok"
    assert x.stat().st_uid == USER
    own(places.source / "x", 0)
    assert x.stat().st_uid == USER  # so the kernel remembers
    assert as_user(USER, lambda: os.setxattr(x, "user.b", b"1")) == "EPERM"
    assert as_user(USER, lambda: os.removexattr(x, "user.a")) == "EPERM"
    assert os.listxattr(places.source / "x") == ["user.a"]


def test_the_present_group_gets_no_set_gid_bit_from_a_user_outside_it(places: Places) -> None:
    x = make(places.mnt / "x", USER)
    os.chown(places.source / "x", -1, 0)
    assert as_user(USER, lambda: x.chmod(0o2755)) == "ok"
    assert stat.S_IMODE((places.source / "x").stat().st_mode) == 0o755


def test_a_directory_that_gives_its_group_by_now_does_not_give_its_rights(places: Places) -> None:
    (places.mnt / "d").mkdir()
    (places.mnt / "d").chmod(0o777)
    (places.source / "d").chmod(0o2777)

    def make_set_gid() -> None:
        os.close(os.open(places.mnt / "d" / "opened", CREATE, 0o2755))
        os.mknod(places.mnt / "d" / "made", 0o102755)

    assert as_user(USER, make_set_gid) == "ok"
    for name in ("opened", "made"):
        made = (places.source / "d" / name).stat()
        assert (made.st_gid, stat.S_IMODE(made.st_mode)) == (0, 0o755)


def test_the_root_of_a_user_namespace_is_that_of_its_users(
    sticky: Places, public_path: Path
) -> None:
    """As of a container: CAP_FOWNER and CAP_CHOWN about what belongs to users that it has."""
    native = public_path / "native"
    native.mkdir()
    native.chmod(0o1777)

    def use(directory: Path) -> None:
        """Do all that it may, and what it may not."""
        os.chdir(directory)
        os.unlink("removed")
        os.chmod("changed", 0o640)
        os.chown("given", 0, 0)
        os.rename("moved", "moved away")
        os.setxattr("changed", "user.a", b"x")
        for act in (os.unlink, os.rmdir, lambda name: os.chmod(name, 0o777)):
            if outcome(partial(act, "roots")) not in ("EPERM", "ENOTDIR"):
                raise OSError(errno.EBADMSG, "it was not refused")

    seen = []
    for directory in (native, sticky.mnt):
        for name in ("removed", "changed", "given", "moved"):
            make(directory / name, USER + 1)
        make(directory / "roots", 0)
        went = as_root_of(partial(use, directory), [(0, USER, 1), (1, USER + 1, 1)])
        left = [(name, (directory / name).stat()) for name in sorted(os.listdir(directory))]
        seen.append([went, *((name, found.st_mode, found.st_uid) for name, found in left)])
    assert seen[0][0] == "ok"
    assert seen[1] == seen[0]


def as_root_of(act: Callable[[], None], users: list[tuple[int, int, int]]) -> str:
    """Do something as root of a user namespace with such users and groups; return how it went."""
    ready, go, out = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            ctypes.CDLL(None).unshare(0x10000000)  # CLONE_NEWUSER
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            os.write(out[1], str(outcome(act) or "ok").encode())
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    for table in ("uid_map", "gid_map"):
        lines = [f"{inside} {outside} {length}\n" for inside, outside, length in users]
        Path(f"/proc/{child}/{table}").write_text("".join(lines))
    os.write(go[1], b"x")
    os.waitpid(child, 0)
    went = os.read(out[0], 100).decode()
    for end in (*ready, *go, *out):
        os.close(end)
    return went
