# SPDX-License-Identifier: GPL-2.0-or-later
"""What the filesystem answers: attributes, owners, errors.  Nothing is watched."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.differential.operations import (
    OTHER_USER,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    UTIME_OMIT,
    renameat2,
    utimensat,
)
from tests.differential.scenario import AnyDevice, as_user, outcome, register

_GROUP = 4321


def answer(call: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Register a scenario that only answers."""

    def run(root: Path, device: AnyDevice) -> Any:
        return call(root)

    register(f"answers of {call.__name__}", run)
    return call


def about(path: Path) -> tuple[int, ...]:
    """Return the attributes that two runs of one scenario share."""
    found = path.lstat()
    return (found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size, found.st_rdev)


# Attributes.


@answer
def setting_each_attribute_alone(d: Path) -> list[Any]:
    f = d / "f"
    f.write_bytes(b"content")
    seen: list[Any] = []
    os.chmod(f, 0o4711)
    seen.append(about(f))
    os.chown(f, OTHER_USER, -1)
    seen.append(about(f))
    os.chown(f, -1, OTHER_USER)
    seen.append(about(f))
    os.truncate(f, 3)
    seen.append(about(f))
    utimensat(f, (1, 123456789), (0, UTIME_OMIT))
    seen.append(f.stat().st_atime_ns)
    utimensat(f, (0, UTIME_OMIT), (2, 987654321))
    seen.append((f.stat().st_atime_ns, f.stat().st_mtime_ns))
    return seen


@answer
def setting_attributes_of_an_open_file(d: Path) -> list[Any]:
    f = d / "f"
    fd = os.open(f, os.O_RDWR | os.O_CREAT, 0o600)
    os.fchmod(fd, 0o640)
    os.fchown(fd, OTHER_USER, _GROUP)
    os.ftruncate(fd, 4096)
    os.utime(fd, ns=(1, 2))
    seen = [about(f), os.fstat(fd).st_mtime_ns]
    os.close(fd)
    return seen


@answer
def setting_attributes_of_an_unlinked_file(d: Path) -> list[Any]:
    fd = os.open(d / "f", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"content")
    os.unlink(d / "f")
    os.fchmod(fd, 0o640)
    os.fchown(fd, OTHER_USER, _GROUP)
    os.ftruncate(fd, 3)
    os.utime(fd, ns=(1, 2))
    os.setxattr(fd, "user.x", b"1")
    found = os.fstat(fd)
    seen = [
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_mtime_ns,
        os.getxattr(fd, "user.x"),
        os.pread(fd, 10, 0),
    ]
    os.close(fd)
    return seen


@answer
def truncating_a_read_only_descriptor(d: Path) -> list[Any]:
    (d / "f").write_bytes(b"content")
    fd = os.open(d / "f", os.O_RDONLY)
    seen = [outcome(lambda: os.ftruncate(fd, 1)), outcome(lambda: os.write(fd, b"x"))]
    os.close(fd)
    return seen


@answer
def attributes_of_a_symlink(d: Path) -> list[Any]:
    link = d / "l"
    link.symlink_to("x" * 300)
    os.chown(link, OTHER_USER, _GROUP, follow_symlinks=False)
    os.utime(link, ns=(5, 6), follow_symlinks=False)
    return [about(link), link.lstat().st_mtime_ns, os.readlink(link)]


@answer
def attributes_of_special_files(d: Path) -> list[Any]:
    os.mkfifo(d / "p", 0o640)
    os.mknod(d / "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(d / "b", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    os.mknod(d / "s", stat.S_IFSOCK | 0o600)
    return [about(d / name) for name in "pcbs"]


@answer
def hard_links_share_all(d: Path) -> list[Any]:
    (d / "f").write_bytes(b"x")
    os.link(d / "f", d / "g")
    (d / "g").chmod(0o600)
    (d / "g").write_bytes(b"longer")
    seen = [about(d / "f"), os.path.samefile(d / "f", d / "g")]
    (d / "f").unlink()
    return [*seen, about(d / "g")]


@answer
def link_counts_of_directories(d: Path) -> list[Any]:
    for name in ("a", "b", "c"):
        (d / name).mkdir()
    (d / "a").rmdir()
    (d / "b").rename(d / "c" / "b")
    return [d.stat().st_nlink, (d / "c").stat().st_nlink]


@answer
def extended_attributes(d: Path) -> list[Any]:
    f = d / "f"
    f.touch()
    missing = partial(os.getxattr, f, "user.x")
    seen: list[Any] = [outcome(missing)]
    seen.append(outcome(partial(os.setxattr, f, "user.x", b"1", os.XATTR_REPLACE)))
    seen.append(outcome(partial(os.setxattr, f, "user.x", b"\0binary\xff", os.XATTR_CREATE)))
    seen.append(outcome(partial(os.setxattr, f, "user.x", b"2", os.XATTR_CREATE)))
    seen += [os.getxattr(f, "user.x"), os.listxattr(f)]
    os.setxattr(f, "user.empty", b"")
    seen += [os.getxattr(f, "user.empty"), sorted(os.listxattr(f))]
    os.setxattr(f, "trusted.t", b"1")
    seen.append(as_user(OTHER_USER, lambda: os.setxattr(f, "user.x", b"3")))
    os.removexattr(f, "user.x")
    return [*seen, outcome(missing), outcome(partial(os.setxattr, f, "nonsense.x", b"1"))]


@answer
def statfs_of_a_directory(d: Path) -> list[Any]:
    found = os.statvfs(d)
    return [found.f_namemax, found.f_bsize, found.f_frsize, found.f_blocks, found.f_files]


# Owners, groups, umask, set-id bits.


def _made_by(user: int, umask: int, mode: int, groups: tuple[int, ...] = ()) -> Callable[..., Any]:
    """One user makes one of each in a directory that has this mode."""

    def made(d: Path) -> list[Any]:
        os.chown(d, 0, _GROUP)
        d.chmod(mode)

        def act() -> None:
            os.umask(umask)
            os.close(os.open(d / "file", os.O_WRONLY | os.O_CREAT, 0o666))
            os.close(os.open(d / "program", os.O_WRONLY | os.O_CREAT, 0o777))
            os.close(os.open(d / "setuid", os.O_WRONLY | os.O_CREAT, 0o4755))
            os.close(os.open(d / "setgid", os.O_WRONLY | os.O_CREAT, 0o2775))
            (d / "directory").mkdir()
            (d / "link").symlink_to("file")
            os.mkfifo(d / "fifo")
            os.mknod(d / "node", 0o6770)

        answered = as_user(user, act, groups)
        return [answered, *(about(d / name) for name in sorted(os.listdir(d)))]

    made.__name__ = f"uid {user} makes with umask {umask:o} in mode {mode:o} groups {groups}"
    return made


for _user in (0, OTHER_USER):
    for _umask in (0o022, 0o077, 0):
        for _mode in (0o777, 0o2777, 0o1777):
            answer(_made_by(_user, _umask, _mode))
answer(_made_by(OTHER_USER, 0o022, 0o2770, (_GROUP,)))
answer(_made_by(OTHER_USER, 0o022, 0o770, (_GROUP,)))
answer(_made_by(OTHER_USER, 0o022, 0o770))


@answer
def supplementary_groups_decide(d: Path) -> list[Any]:
    f = d / "f"
    f.write_bytes(b"x")
    os.chown(f, 0, _GROUP)
    f.chmod(0o640)
    d.chmod(0o755)
    return [
        as_user(OTHER_USER, lambda: os.open(f, os.O_RDONLY)),
        as_user(OTHER_USER, lambda: os.open(f, os.O_RDONLY), (_GROUP,)),
        as_user(OTHER_USER, lambda: os.open(f, os.O_WRONLY), (_GROUP,)),
    ]


@answer
def sticky_directories_protect(d: Path) -> list[Any]:
    (d / "f").touch()
    d.chmod(0o1777)
    return [
        as_user(OTHER_USER, lambda: os.unlink(d / "f")),
        as_user(OTHER_USER, lambda: os.rename(d / "f", d / "g")),
    ]


@answer
def chown_and_chmod_by_others(d: Path) -> list[Any]:
    d.chmod(0o777)
    as_user(OTHER_USER, lambda: (d / "f").touch())
    return [
        as_user(OTHER_USER, lambda: os.chown(d / "f", OTHER_USER + 1, -1)),
        as_user(OTHER_USER, lambda: os.chown(d / "f", -1, _GROUP), (_GROUP,)),
        as_user(OTHER_USER, lambda: os.chmod(d / "f", 0o2775), (_GROUP,)),
        about(d / "f"),
        as_user(OTHER_USER, lambda: os.chmod(d / "f", 0o2775)),
        about(d / "f"),
        as_user(OTHER_USER + 1, lambda: os.chmod(d / "f", 0o777)),
        as_user(OTHER_USER + 1, lambda: os.utime(d / "f", ns=(1, 1))),
    ]


# Names and errors.


@answer
def rename_flags(d: Path) -> list[Any]:
    (d / "f").write_bytes(b"f")
    (d / "g").write_bytes(b"g")
    return [
        outcome(lambda: renameat2(d / "f", d / "g", RENAME_NOREPLACE)),
        outcome(lambda: renameat2(d / "f", d / "g", RENAME_EXCHANGE)),
        (d / "f").read_bytes(),
        outcome(lambda: renameat2(d / "f", d / "missing", RENAME_EXCHANGE)),
        outcome(lambda: renameat2(d / "f", d / "g", RENAME_NOREPLACE | RENAME_EXCHANGE)),
        outcome(lambda: renameat2(d / "f", d / "h", RENAME_NOREPLACE)),
        sorted(os.listdir(d)),
    ]


@answer
def refusals(d: Path) -> list[Any]:
    (d / "f").write_bytes(b"x")
    (d / "s").mkdir()
    (d / "s" / "x").touch()
    (d / "loop").symlink_to("loop")
    calls: list[Callable[[], Any]] = [
        lambda: os.rmdir(d / "s"),
        lambda: os.rmdir(d / "f"),
        lambda: os.unlink(d / "s"),
        lambda: os.mkdir(d / "f"),
        lambda: os.rename(d / "s", d / "f"),
        lambda: os.rename(d / "f", d / "s"),
        lambda: os.rename(d / "s", d / "s" / "inside"),
        lambda: os.link(d / "s", d / "t"),
        lambda: os.open(d / "f" / "x", os.O_RDONLY),
        lambda: os.open(d / "s", os.O_WRONLY),
        lambda: os.open(d / "loop", os.O_RDONLY),
        lambda: os.open(d / "f", os.O_RDONLY | os.O_DIRECTORY),
        lambda: os.open(d / "loop", os.O_RDONLY | os.O_NOFOLLOW),
        lambda: os.open(d / ("n" * 256), os.O_RDONLY | os.O_CREAT),
        lambda: os.readlink(d / "f"),
        lambda: os.truncate(d / "f", -1),
        lambda: os.symlink("x", d / "f"),
        lambda: os.symlink("", d / "empty"),
    ]
    return [outcome(call) for call in calls]


@answer
def a_path_longer_than_path_max(d: Path) -> list[Any]:
    here = os.open(d, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=here)
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    fd = os.open("deep", os.O_RDWR | os.O_CREAT, dir_fd=here)
    os.write(fd, b"content")
    os.rename("deep", "deeper", src_dir_fd=here, dst_dir_fd=here)
    seen = [os.listdir(here), os.pread(fd, 10, 0)]
    os.close(fd)
    os.close(here)
    return seen


@answer
def listing_many_hard_links(d: Path) -> int:
    (d / "f").touch()
    for number in range(500):
        os.link(d / "f", d / f"link{number:04}")
    return len(os.listdir(d))


@answer
def removing_while_listing(d: Path) -> list[Any]:
    for number in range(300):
        (d / f"f{number}").touch()
    with os.scandir(d) as entries:
        for entry in entries:
            os.unlink(entry)
    return os.listdir(d)


@answer
def a_rewound_directory_shows_what_is_new(d: Path) -> list[Any]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    for function in (libc.readdir, libc.rewinddir, libc.closedir):
        function.argtypes = (ctypes.c_void_p,)

    def count(stream: int) -> int:
        found = 0
        while libc.readdir(stream):
            found += 1
        return found

    stream = libc.opendir(os.fsencode(d))
    seen = [count(stream)]
    (d / "new").touch()
    libc.rewinddir(stream)
    seen.append(count(stream))
    libc.closedir(stream)
    return seen


# Contents.


@answer
def sparse_files_and_offsets(d: Path) -> list[Any]:
    fd = os.open(d / "f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"end", 1 << 20)
    seen: list[Any] = [
        os.fstat(fd).st_size,
        os.pread(fd, 5, (1 << 20) - 2),
        os.pread(fd, 9, 1 << 21),
    ]
    os.close(fd)
    return seen


@answer
def appending_from_two_descriptors(d: Path) -> bytes:
    first = os.open(d / "f", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    second = os.open(d / "f", os.O_WRONLY | os.O_APPEND)
    for fd in (first, second, first):
        os.write(fd, b"%d;" % [first, second].index(fd))
    os.close(first)
    os.close(second)
    return (d / "f").read_bytes()


@answer
def shared_mappings(d: Path) -> bytes:
    (d / "f").write_bytes(b"." * 8192)
    fd = os.open(d / "f", os.O_RDWR)
    with mmap.mmap(fd, 8192) as mapping:
        mapping[5000:5003] = b"abc"
        mapping.flush()
    os.close(fd)
    return (d / "f").read_bytes()[4998:5005]


@answer
def direct_io(d: Path) -> list[Any]:
    buffer = mmap.mmap(-1, 8192)
    buffer[:] = b"x" * 8192
    fd = os.open(d / "f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    seen: list[Any] = [os.writev(fd, [buffer]), os.preadv(fd, [buffer], 4096)]
    os.close(fd)
    return [*seen, (d / "f").stat().st_size]


@answer
def locks(d: Path) -> list[Any]:
    fd = os.open(d / "f", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    other = os.open(d / "f", os.O_RDWR)
    seen = [outcome(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))]
    fcntl.lockf(fd, fcntl.LOCK_EX)
    child = partial(fcntl.lockf, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    seen.append(as_user(0, child))
    os.close(fd)
    os.close(other)
    return seen
