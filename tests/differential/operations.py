# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations on files, directories and names, each watched in three ways."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.differential.scenario import as_user, operation

OTHER_USER = 1234
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_libc = ctypes.CDLL(None, use_errno=True)


def nothing(root: Path) -> None:
    """Prepare nothing."""


def file(name: str = "f", content: bytes = b"content", mode: int = 0o644) -> Callable[[Path], None]:
    """Return a preparation: a file."""

    def prepare(root: Path) -> None:
        (root / name).write_bytes(content)
        (root / name).chmod(mode)

    return prepare


def directory(*found: str) -> Callable[[Path], None]:
    """Return a preparation: a directory s with these files in it."""

    def prepare(root: Path) -> None:
        (root / "s").mkdir()
        for name in found:
            (root / "s" / name).write_bytes(b"content")

    return prepare


def both(*preparations: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return several preparations as one."""

    def prepare(root: Path) -> None:
        for preparation in preparations:
            preparation(root)

    return prepare


def renameat2(source: Path, target: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def utimensat(path: Path, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    times = (ctypes.c_long * 4)(*atime, *mtime)
    if _libc.utimensat(-100, os.fsencode(path), times, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# Making.


@operation(nothing)
def create_write_close(d: Path) -> None:
    (d / "f").write_bytes(b"content")


@operation(nothing)
def create_and_close(d: Path) -> None:
    os.close(os.open(d / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL))


@operation(nothing)
def create_read_only(d: Path) -> None:
    os.close(os.open(d / "f", os.O_RDONLY | os.O_CREAT, 0o600))


@operation(file(), "f")
def create_exclusively_what_exists(d: Path) -> None:
    os.close(os.open(d / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL))


@operation(nothing)
def make_directory(d: Path) -> None:
    (d / "s").mkdir()


@operation(directory(), "s")
def make_directory_that_exists(d: Path) -> None:
    (d / "s").mkdir()


@operation(directory(), "s")
def make_file_in_a_subdirectory(d: Path) -> None:
    (d / "s" / "f").write_bytes(b"x")


@operation(nothing)
def make_symlink(d: Path) -> None:
    (d / "l").symlink_to("nowhere")


@operation(nothing)
def make_fifo(d: Path) -> None:
    os.mkfifo(d / "p")


@operation(nothing)
def make_device_node(d: Path) -> None:
    os.mknod(d / "null", 0o20666, os.makedev(1, 3))


@operation(nothing)
def make_file_by_mknod(d: Path) -> None:
    os.mknod(d / "f", 0o100644)


@operation(nothing)
def bind_a_socket(d: Path) -> None:
    here = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/sock")
    os.close(here)


@operation(file(), "f")
def hard_link(d: Path) -> None:
    os.link(d / "f", d / "g")


@operation(both(file(), directory()), "f", "s")
def hard_link_into_a_subdirectory(d: Path) -> None:
    os.link(d / "f", d / "s" / "g")


@operation(file(), "f")
def hard_link_over_what_exists(d: Path) -> None:
    os.link(d / "f", d / "f")


# Names of all lengths.


def _write_name(name: bytes) -> Callable[[Path], None]:
    def act(d: Path) -> None:
        path = os.path.join(os.fsencode(d), name)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        os.rename(path, path[:-1] + b"Z")
        os.unlink(path[:-1] + b"Z")

    act.__name__ = f"name_of_{len(name)}_bytes"
    return act


for _length in (1, 15, 16, 17, 31, 32, 255):
    operation(nothing)(_write_name(b"n" * _length))


@operation(nothing)
def name_that_is_not_utf8(d: Path) -> None:
    path = os.path.join(os.fsencode(d), b"\xff\xfe\x80")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    os.unlink(path)


@operation(nothing)
def name_that_is_too_long(d: Path) -> None:
    (d / ("n" * 256)).touch()


# Opening, reading, writing.


@operation(file(), "f")
def open_and_close_for_reading(d: Path) -> None:
    os.close(os.open(d / "f", os.O_RDONLY))


@operation(file(), "f")
def open_and_close_for_writing(d: Path) -> None:
    os.close(os.open(d / "f", os.O_WRONLY))


@operation(file(), "f")
def open_and_close_for_both(d: Path) -> None:
    os.close(os.open(d / "f", os.O_RDWR))


@operation(file(), "f")
def open_by_path_only(d: Path) -> None:
    os.close(os.open(d / "f", os.O_PATH))


@operation(file(), "f")
def open_what_is_missing(d: Path) -> None:
    os.close(os.open(d / "g", os.O_RDONLY))


@operation(file(), "f")
def open_with_truncation(d: Path) -> None:
    os.close(os.open(d / "f", os.O_WRONLY | os.O_TRUNC))


@operation(file(content=b""), "f")
def open_an_empty_file_with_truncation(d: Path) -> None:
    os.close(os.open(d / "f", os.O_WRONLY | os.O_TRUNC))


@operation(file(), "f")
def open_read_only_with_truncation(d: Path) -> None:
    os.close(os.open(d / "f", os.O_RDONLY | os.O_TRUNC))


@operation(file(), "f")
def rewrite(d: Path) -> None:
    (d / "f").write_bytes(b"something else")


@operation(file(), "f")
def append(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"one")
    os.write(fd, b"two")
    os.close(fd)


@operation(file(), "f")
def write_nothing(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY)
    os.write(fd, b"")
    os.close(fd)


@operation(file(), "f")
def write_at_an_offset(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY)
    os.pwrite(fd, b"x", 100)
    os.writev(fd, [b"a", b"b"])
    os.close(fd)


@operation(file(), "f")
def read_once(d: Path) -> bytes:
    fd = os.open(d / "f", os.O_RDONLY)
    data = os.read(fd, 100)
    os.close(fd)
    return data


@operation(file(content=b""), "f")
def read_an_empty_file(d: Path) -> bytes:
    return (d / "f").read_bytes()


@operation(file(), "f")
def read_zero_bytes(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDONLY)
    os.read(fd, 0)
    os.close(fd)


@operation(file(), "f")
def read_then_write(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDWR)
    os.read(fd, 3)
    os.write(fd, b"x")
    os.close(fd)


@operation(file(), "f")
def duplicate_and_close_both(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY)
    copy = os.dup(fd)
    os.close(fd)
    os.write(copy, b"x")
    os.close(copy)


@operation(file(), "f")
def two_descriptions_of_one_file(d: Path) -> None:
    reader = os.open(d / "f", os.O_RDONLY)
    writer = os.open(d / "f", os.O_WRONLY)
    os.write(writer, b"x")
    os.close(reader)
    os.close(writer)


@operation(file(), "f")
def a_forked_process_closes_last(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY)
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        os.read(ready, 1)
        os.write(fd, b"x")
        os._exit(0)
    os.close(fd)
    os.write(go, b"x")
    os.waitpid(child, 0)
    os.close(ready)
    os.close(go)


@operation(file(), "f")
def a_descriptor_passed_over_a_socket(d: Path) -> None:
    left, right = socket.socketpair()
    fd = os.open(d / "f", os.O_WRONLY)
    socket.send_fds(left, [b"x"], [fd])
    os.close(fd)
    _, (received,), _, _ = socket.recv_fds(right, 1, 1)
    os.write(received, b"x")
    os.close(received)
    left.close()
    right.close()


@operation(file(), "f")
def open_through_proc(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDONLY)
    os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
    os.close(fd)


@operation(file(), "f")
def fsync_and_lock(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDWR)
    os.fsync(fd)
    os.fdatasync(fd)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.close(fd)


@operation(both(file(), file("g", b"")), "f", "g")
def copy_file_range(d: Path) -> None:
    source, target = os.open(d / "f", os.O_RDONLY), os.open(d / "g", os.O_WRONLY)
    os.copy_file_range(source, target, 7)
    os.close(source)
    os.close(target)


@operation(both(file(), file("g", b"")), "f", "g")
def sendfile(d: Path) -> None:
    source, target = os.open(d / "f", os.O_RDONLY), os.open(d / "g", os.O_WRONLY)
    os.sendfile(target, source, 0, 7)
    os.close(source)
    os.close(target)


@operation(file(), "f")
def read_through_a_mapping_and_close(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDWR)
    mapping = mmap.mmap(fd, 7)
    os.close(fd)
    mapping.close()


@operation(nothing)
def run_a_program(d: Path) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True, cwd="/")


# Truncating.


@operation(file(), "f")
def truncate(d: Path) -> None:
    os.truncate(d / "f", 3)


@operation(file(), "f")
def truncate_to_the_same_size(d: Path) -> None:
    os.truncate(d / "f", 7)


@operation(file(), "f")
def ftruncate(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY)
    os.ftruncate(fd, 100)
    os.close(fd)


@operation(directory(), "s")
def truncate_a_directory(d: Path) -> None:
    os.truncate(d / "s", 0)


# Attributes.


@operation(file(), "f")
def chmod(d: Path) -> None:
    (d / "f").chmod(0o600)


@operation(file(), "f")
def chmod_to_the_same(d: Path) -> None:
    (d / "f").chmod(0o644)


@operation(file(), "f")
def fchmod(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDONLY)
    os.fchmod(fd, 0o600)
    os.close(fd)


@operation(directory(), "s")
def chmod_a_directory(d: Path) -> None:
    (d / "s").chmod(0o700)


@operation(file(), "f")
def chown(d: Path) -> None:
    os.chown(d / "f", OTHER_USER, OTHER_USER)


@operation(file(), "f")
def chown_nothing(d: Path) -> None:
    os.chown(d / "f", -1, -1)


@operation(file(mode=0o4755), "f")
def chown_of_a_set_uid_file(d: Path) -> int:
    os.chown(d / "f", OTHER_USER, OTHER_USER)
    return (d / "f").stat().st_mode


@operation(lambda d: (d / "l").symlink_to("nowhere"))
def chown_of_a_symlink(d: Path) -> None:
    os.chown(d / "l", OTHER_USER, OTHER_USER, follow_symlinks=False)


@operation(file(), "f")
def utimensat_of_both(d: Path) -> None:
    utimensat(d / "f", (1, 2), (3, 4))


@operation(file(), "f")
def utimensat_of_both_now(d: Path) -> None:
    utimensat(d / "f", (0, UTIME_NOW), (0, UTIME_NOW))


@operation(file(), "f")
def utimensat_of_atime(d: Path) -> None:
    utimensat(d / "f", (1, 2), (0, UTIME_OMIT))


@operation(file(), "f")
def utimensat_of_mtime(d: Path) -> None:
    utimensat(d / "f", (0, UTIME_OMIT), (3, 4))


@operation(file(), "f")
def utimensat_of_neither(d: Path) -> None:
    utimensat(d / "f", (0, UTIME_OMIT), (0, UTIME_OMIT))


@operation(directory(), "s")
def utimensat_of_a_directory(d: Path) -> None:
    utimensat(d / "s", (1, 2), (3, 4))


@operation(file(), "f")
def set_and_remove_an_extended_attribute(d: Path) -> None:
    os.setxattr(d / "f", "user.x", b"1")
    os.getxattr(d / "f", "user.x")
    os.removexattr(d / "f", "user.x")


@operation(file(), "f")
def remove_an_extended_attribute_that_is_not_there(d: Path) -> None:
    os.removexattr(d / "f", "user.x")


@operation(directory(), "s")
def set_an_extended_attribute_of_a_directory(d: Path) -> None:
    os.setxattr(d / "s", "user.x", b"1")


ACL_OF_A_USER = struct.pack(
    "<I" + "HHI" * 5,
    2,
    *(1, 6, 0xFFFFFFFF),
    *(2, 4, OTHER_USER),
    *(4, 4, 0xFFFFFFFF),
    *(16, 4, 0xFFFFFFFF),
    *(32, 0, 0xFFFFFFFF),
)


@operation(file(), "f")
def set_and_remove_an_acl(d: Path) -> bytes:
    os.setxattr(d / "f", "system.posix_acl_access", ACL_OF_A_USER)
    acl = os.getxattr(d / "f", "system.posix_acl_access")
    os.removexattr(d / "f", "system.posix_acl_access")
    return acl


@operation(directory(), "s")
def set_a_default_acl(d: Path) -> None:
    os.setxattr(d / "s", "system.posix_acl_default", ACL_OF_A_USER)


@operation(file(), "f")
def fallocate_by_fallback(d: Path) -> int:
    fd = os.open(d / "f", os.O_RDWR)
    os.posix_fallocate(fd, 0, 100)
    os.close(fd)
    return (d / "f").stat().st_size


@operation(file(), "f")
def stat_access_and_list(d: Path) -> list[str]:
    (d / "f").stat()
    os.access(d / "f", os.R_OK)
    os.listxattr(d / "f")
    os.statvfs(d / "f")
    return sorted(os.listdir("/proc/self/task"))[:0]


@operation(lambda d: (d / "l").symlink_to("f"))
def read_a_symlink(d: Path) -> str:
    return os.readlink(d / "l")


# Set-id files and other users.


@operation(both(lambda d: d.chmod(0o777), file(mode=0o4777)), "f")
def another_user_writes_to_a_set_uid_file(d: Path) -> list[object]:
    def write() -> None:
        fd = os.open(d / "f", os.O_WRONLY)
        os.write(fd, b"x")
        os.close(fd)

    return [as_user(OTHER_USER, write), (d / "f").stat().st_mode]


@operation(both(lambda d: d.chmod(0o777), file(mode=0o6777)), "f")
def another_user_truncates_a_set_id_file_by_open(d: Path) -> list[object]:
    def truncated() -> None:
        os.close(os.open(d / "f", os.O_WRONLY | os.O_TRUNC))

    return [as_user(OTHER_USER, truncated), (d / "f").stat().st_mode]


@operation(both(lambda d: d.chmod(0o777), file(mode=0o2666)), "f")
def another_user_truncates_a_set_gid_file_without_group_x_by_open(d: Path) -> list[object]:
    def truncated() -> None:
        os.close(os.open(d / "f", os.O_WRONLY | os.O_TRUNC))

    seen: list[object] = []
    for groups in ([0], []):  # as a member of the file's group, and as a stranger
        seen += [as_user(OTHER_USER, truncated, groups), (d / "f").stat().st_mode]
    return seen


@operation(both(lambda d: d.chmod(0o777), file(mode=0o2666)), "f")
def another_user_writes_to_a_set_gid_file_without_group_x(d: Path) -> list[object]:
    def write() -> None:
        os.write(os.open(d / "f", os.O_WRONLY), b"x")

    seen: list[object] = []
    for groups in ([0], []):  # as a member of the file's group, and as a stranger
        seen += [as_user(OTHER_USER, write, groups), (d / "f").stat().st_mode]
    return seen


@operation(both(lambda d: d.chmod(0o777), file(mode=0o6777)), "f")
def another_user_truncates_a_set_id_file(d: Path) -> list[object]:
    return [as_user(OTHER_USER, lambda: os.truncate(d / "f", 1)), (d / "f").stat().st_mode]


@operation(both(lambda d: d.chmod(0o777), file(mode=0o6666)), "f")
def another_user_truncates_a_set_id_file_by_its_descriptor(d: Path) -> list[object]:
    def truncated() -> None:
        os.ftruncate(os.open(d / "f", os.O_WRONLY), 1)

    return [as_user(OTHER_USER, truncated), (d / "f").stat().st_mode]


@operation(file(mode=0o4777), "f")
def another_user_writes_to_a_set_uid_file_that_root_opened(d: Path) -> list[object]:
    fd = os.open(d / "f", os.O_WRONLY)
    answer = as_user(OTHER_USER, lambda: os.write(fd, b"x"))
    os.close(fd)
    return [answer, (d / "f").stat().st_mode]


@operation(file(mode=0o6777), "f")
def root_keeps_set_id_bits(d: Path) -> list[object]:
    with (d / "f").open("r+b", buffering=0) as f:
        f.write(b"x")
        f.truncate(1)
    os.truncate(d / "f", 0)
    return [(d / "f").stat().st_mode]


@operation(both(file(mode=0o6777), file("g", mode=0o6777), file("h", mode=0o6777)))
def root_without_cap_fsetid_loses_set_id_bits(d: Path) -> list[object]:
    for command in ("echo x >> f", "echo x > g", "truncate -s 1 h"):
        without = ["setpriv", "--bounding-set=-fsetid"]
        subprocess.run([*without, "sh", "-c", command], cwd=d, check=True)
    return [(d / name).stat().st_mode for name in "fgh"]


@operation(both(file(mode=0o6777), file("g", mode=0o2666)), "f")
def chown_nothing_of_set_id_files(d: Path) -> list[object]:
    for name in "fg":
        os.chown(d / name, -1, -1)
    return [(d / name).stat().st_mode for name in "fg"]


@operation(file(mode=0o4777), "f")
def another_user_chowns_nothing_of_a_set_id_file(d: Path) -> list[object]:
    refused = as_user(OTHER_USER, lambda: os.chown(d / "f", -1, -1))
    os.chown(d / "f", OTHER_USER, -1)
    (d / "f").chmod(0o4777)
    allowed = as_user(OTHER_USER, lambda: os.chown(d / "f", -1, -1))
    return [refused, allowed, (d / "f").stat().st_mode]


@operation(lambda d: os.mkfifo(d / "p"))
def another_user_chowns_nothing_of_a_set_id_fifo(d: Path) -> list[object]:
    (d / "p").chmod(0o6666)
    refused = as_user(OTHER_USER, lambda: os.chown(d / "p", -1, -1))
    os.chown(d / "p", -1, -1)
    return [refused, (d / "p").stat().st_mode]


@operation(both(lambda d: d.chmod(0o777), file(mode=0o666)), "f")
def an_owner_outside_the_group_gives_a_set_gid_file_to_another(d: Path) -> list[object]:
    seen: list[object] = []
    for groups in ([7, 8], [8]):  # the first is the file's
        os.chown(d / "f", OTHER_USER, 7)
        (d / "f").chmod(0o2666)
        seen += [as_user(OTHER_USER, lambda: os.chown(d / "f", -1, 8), groups)]
        seen += [(d / "f").stat().st_mode]
    return seen


@operation(both(lambda d: d.chmod(0o777), file(mode=0o6666)), "f")
def a_program_with_a_name_that_is_no_text_truncates_a_set_id_file(d: Path) -> list[object]:
    def named() -> None:
        Path("/proc/self/comm").write_bytes(b"\xff\xfe")
        os.truncate(d / "f", 1)

    return [as_user(OTHER_USER, named), (d / "f").stat().st_mode]


@operation(file(mode=0o600), "f")
def another_user_is_refused(d: Path) -> object:
    return as_user(OTHER_USER, lambda: os.open(d / "f", os.O_RDONLY))


@operation(lambda d: d.chmod(0o777))
def another_user_makes_a_file(d: Path) -> list[object]:
    answer = as_user(OTHER_USER, lambda: (d / "f").write_bytes(b"x"))
    status = (d / "f").stat()
    return [answer, status.st_uid, status.st_gid, status.st_mode]


# Removing.


@operation(file(), "f")
def unlink(d: Path) -> None:
    (d / "f").unlink()


@operation(file(), "f")
def unlink_what_is_missing(d: Path) -> None:
    (d / "g").unlink()


@operation(both(file(), lambda d: os.link(d / "f", d / "g")), "f")
def unlink_one_of_two_links(d: Path) -> None:
    (d / "f").unlink()


@operation(both(file(), lambda d: os.link(d / "f", d / "g")), "f")
def unlink_both_links(d: Path) -> None:
    (d / "f").unlink()
    (d / "g").unlink()


@operation(file(), "f")
def unlink_while_open(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDWR)
    (d / "f").unlink()
    os.write(fd, b"x")
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, 0)
    os.close(fd)


@operation(file(), "f")
def unlink_while_open_twice(d: Path) -> None:
    first, second = os.open(d / "f", os.O_RDONLY), os.open(d / "f", os.O_WRONLY)
    (d / "f").unlink()
    os.close(first)
    os.close(second)


@operation(both(file(), lambda d: os.link(d / "f", d / "g")), "f")
def unlink_both_links_while_one_is_open(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY)
    (d / "f").unlink()
    (d / "g").unlink()
    os.write(fd, b"x")
    os.close(fd)


@operation(both(file(), lambda d: os.link(d / "f", d / "g")), "f")
def unlink_both_links_the_open_one_last(d: Path) -> None:
    fd = os.open(d / "f", os.O_WRONLY)
    (d / "g").unlink()
    (d / "f").unlink()
    os.close(fd)


@operation(file(), "f")
def unlink_while_mapped(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDONLY)
    mapping = mmap.mmap(fd, 7, prot=mmap.PROT_READ)
    os.close(fd)
    (d / "f").unlink()
    mapping.close()


@operation(file(), "f")
def unlink_and_make_again(d: Path) -> None:
    (d / "f").unlink()
    (d / "f").write_bytes(b"new")


@operation(lambda d: (d / "l").symlink_to("nowhere"))
def unlink_a_symlink(d: Path) -> None:
    (d / "l").unlink()


@operation(lambda d: os.mkfifo(d / "p"), "p")
def unlink_a_fifo(d: Path) -> None:
    (d / "p").unlink()


@operation(directory(), "s")
def remove_directory(d: Path) -> None:
    (d / "s").rmdir()


@operation(directory("x"), "s")
def remove_directory_that_is_not_empty(d: Path) -> None:
    (d / "s").rmdir()


@operation(directory(), "s")
def remove_directory_while_open(d: Path) -> None:
    fd = os.open(d / "s", os.O_RDONLY | os.O_DIRECTORY)
    (d / "s").rmdir()
    os.close(fd)


@operation(directory("x"), "s", "s/x")
def remove_directory_while_a_removed_file_is_open(d: Path) -> None:
    fd = os.open(d / "s" / "x", os.O_WRONLY)
    (d / "s" / "x").unlink()
    (d / "s").rmdir()
    os.write(fd, b"x")
    os.close(fd)


@operation(both(directory(), lambda d: (d / "s" / "t").mkdir()), "s", "s/t")
def remove_directories_while_a_removed_file_is_open(d: Path) -> None:
    fd = os.open(d / "s" / "t" / "x", os.O_WRONLY | os.O_CREAT)
    (d / "s" / "t" / "x").unlink()
    (d / "s" / "t").rmdir()
    (d / "s").rmdir()
    os.close(fd)


@operation(both(directory("x", "y"), file()), "s", "s/x")
def remove_directory_while_a_replaced_file_is_open(d: Path) -> None:
    fd = os.open(d / "s" / "x", os.O_WRONLY)
    (d / "s" / "y").rename(d / "s" / "x")
    (d / "s" / "x").rename(d / "f")
    (d / "s").rmdir()
    os.close(fd)


@operation(directory("x", "y"), "s", "s/x")
def remove_a_tree(d: Path) -> None:
    (d / "s" / "x").unlink()
    (d / "s" / "y").unlink()
    (d / "s").rmdir()


# Renaming.


@operation(file(), "f")
def rename(d: Path) -> None:
    (d / "f").rename(d / "g")


@operation(file(), "f")
def rename_what_is_missing(d: Path) -> None:
    (d / "g").rename(d / "h")


@operation(file(), "f")
def rename_to_the_same_name(d: Path) -> None:
    (d / "f").rename(d / "f")


@operation(both(file(), lambda d: os.link(d / "f", d / "g")), "f")
def rename_between_links_of_one_inode(d: Path) -> None:
    (d / "f").rename(d / "g")


@operation(both(file(), file("g")), "f", "g")
def rename_over_another(d: Path) -> None:
    (d / "f").rename(d / "g")


@operation(both(file(), file("g"), lambda d: os.link(d / "g", d / "h")), "f", "g")
def rename_over_one_of_two_links(d: Path) -> None:
    (d / "f").rename(d / "g")


@operation(both(file(), file("g")), "f", "g")
def rename_over_an_open_one(d: Path) -> None:
    fd = os.open(d / "g", os.O_RDWR)
    (d / "f").rename(d / "g")
    os.write(fd, b"x")
    os.close(fd)


@operation(both(file(), file("g")), "f", "g")
def rename_not_over_another(d: Path) -> None:
    renameat2(d / "f", d / "g", RENAME_NOREPLACE)


@operation(file(), "f")
def rename_without_replacing(d: Path) -> None:
    renameat2(d / "f", d / "g", RENAME_NOREPLACE)


@operation(both(file(), file("g")), "f", "g")
def exchange(d: Path) -> None:
    renameat2(d / "f", d / "g", RENAME_EXCHANGE)


@operation(both(file(), directory("x")), "f", "s")
def exchange_a_file_and_a_directory(d: Path) -> None:
    renameat2(d / "f", d / "s", RENAME_EXCHANGE)
    (d / "f" / "x").write_bytes(b"y")


@operation(both(file(), directory()), "f", "s")
def rename_into_a_subdirectory(d: Path) -> None:
    (d / "f").rename(d / "s" / "g")


@operation(directory("x"), "s", "s/x")
def rename_out_of_a_subdirectory(d: Path) -> None:
    (d / "s" / "x").rename(d / "x")


@operation(directory("x"), "s", "s/x")
def rename_a_directory(d: Path) -> None:
    (d / "s").rename(d / "t")
    (d / "t" / "x").write_bytes(b"y")


@operation(both(directory(), lambda d: (d / "t").mkdir()), "s", "t")
def rename_a_directory_over_an_empty_one(d: Path) -> None:
    (d / "s").rename(d / "t")


@operation(both(directory("x"), lambda d: (d / "t").mkdir()), "s", "t")
def rename_a_directory_over_a_full_one(d: Path) -> None:
    (d / "t").rename(d / "s")


@operation(both(file(), directory()), "f", "s")
def rename_a_file_over_a_directory(d: Path) -> None:
    (d / "f").rename(d / "s")


@operation(file(), "f")
def rename_while_open(d: Path) -> None:
    fd = os.open(d / "f", os.O_RDWR)
    (d / "f").rename(d / "g")
    os.write(fd, b"x")
    os.fchmod(fd, 0o600)
    os.close(fd)


@operation(file(), "f")
def rename_there_and_back(d: Path) -> None:
    (d / "f").rename(d / "g")
    (d / "g").rename(d / "f")


@operation(file(), "f")
def replace_as_editors_do(d: Path) -> None:
    (d / ".f.new").write_bytes(b"new")
    (d / ".f.new").rename(d / "f")


@operation(lambda d: (d / "l").symlink_to("nowhere"))
def rename_a_symlink(d: Path) -> None:
    (d / "l").rename(d / "m")


# Reading directories.


@operation(directory("x", "y"), "s")
def list_a_directory(d: Path) -> list[str]:
    return sorted(os.listdir(d / "s"))


@operation(directory(), "s")
def list_an_empty_directory(d: Path) -> list[str]:
    return os.listdir(d / "s")


@operation(directory("x"), "s")
def open_and_close_a_directory(d: Path) -> None:
    os.close(os.open(d / "s", os.O_RDONLY | os.O_DIRECTORY))


@operation(directory("x"), "s", "s/x")
def use_a_file_by_its_open_directory(d: Path) -> None:
    here = os.open(d / "s", os.O_PATH)
    fd = os.open("x", os.O_WRONLY, dir_fd=here)
    os.write(fd, b"y")
    os.close(fd)
    os.unlink("x", dir_fd=here)
    os.close(here)


# Hard links.


@operation(both(file(), lambda d: os.link(d / "f", d / "g")), "f")
def write_through_the_second_of_two_links(d: Path) -> None:
    (d / "g").write_bytes(b"x")


@operation(both(file(), lambda d: os.link(d / "f", d / "g")), "f")
def write_through_each_of_two_links(d: Path) -> None:
    (d / "f").write_bytes(b"x")
    (d / "g").write_bytes(b"y")


@operation(file(), "f")
def twenty_different_operations(d: Path) -> None:
    (d / "s").mkdir()
    (d / "f").chmod(0o600)
    os.utime(d / "f", ns=(1, 2))
    os.truncate(d / "f", 3)
    (d / "g").write_bytes(b"new")
    os.link(d / "g", d / "h")
    (d / "l").symlink_to("g")
    os.mkfifo(d / "p")
    (d / "f").rename(d / "s" / "f")
    (d / "s" / "f").rename(d / "f")
    fd = os.open(d / "f", os.O_RDWR | os.O_APPEND)
    os.write(fd, b"x")
    os.ftruncate(fd, 1)
    os.close(fd)
    os.setxattr(d / "g", "user.x", b"1")
    os.chown(d / "g", OTHER_USER, -1)
    os.listdir(d / "s")
    renameat2(d / "g", d / "f", RENAME_EXCHANGE)
    (d / "f").rename(d / "g")
    for name in ("g", "h", "l", "p"):
        (d / name).unlink()
    (d / "s").rmdir()
