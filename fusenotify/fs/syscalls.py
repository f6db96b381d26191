# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that the os module lacks, and the way from a descriptor to a path.

All of fs uses this module.  All functions raise OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from fusenotify.bits import IN_DELETE_SELF

_libc = ctypes.CDLL(None, use_errno=True)
# For calls that never sleep: faster, as no other thread of Python's gets to run meanwhile.
_libc_at_once = ctypes.PyDLL(None, use_errno=True)
_open_tree = getattr(_libc_at_once, "open_tree", None)
_getdents = getattr(_libc, "getdents64", None) or _libc.getdents  # of glibc, of musl
AT_FDCWD = -100
_UTIME_OMIT = (1 << 30) - 2
_NANOSECONDS = 10**9
_AT_EMPTY_PATH = 0x1000
# Numbers that all architectures share.
_SYS_OPEN_TREE, _SYS_OPENAT2, _SYS_MOUNT_SETATTR = 428, 437, 442
_OPEN_TREE_CLONE = 1
_MS_PRIVATE = 1 << 18
# The first one with RESOLVE_NO_SYMLINKS.
_RESOLVE_BENEATH, _RESOLVE_CACHED = 0x08 | 0x04, 0x20
_TRIES = 3
# struct file_handle: the length of the handle, its type, the handle.
_HANDLE_HEADER = 8
_MAX_HANDLE = 128
# As much of a directory as is read at a time: a hundred names or two.
_DIRECTORY_BUFFER = 4096
# struct linux_dirent64: inode number, the offset behind the entry, its length, type, and the name.
_ENTRY = struct.Struct("=QqHB")
_LONGEST_ENTRY = _ENTRY.size + 255 + 1 + 7  # with NUL and padding
# SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER.
_SYNC_ALL = 7
# Bytes: more than struct statfs has anywhere.
_MOST_OF_STATFS = 512
_DESCRIPTORS = "/proc/self/fd/"
# What path_of() begins with.
_descriptors = _DESCRIPTORS
_CAPABILITY_VERSION_3 = 0x20080522
CAP_CHOWN = 0
CAP_FOWNER = 3
_CAP_SYS_RESOURCE = 24
_AT_STATX_DONT_SYNC = 0x4000
_STATX_INO = 0x100
_STATX_SIZE = 256
_STATX = struct.Struct("=I28xQ96xII")  # stx_mask, stx_ino, stx_dev_major, stx_dev_minor


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    """Of 32 capabilities; there are two of them."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_directory = ctypes.create_string_buffer(_DIRECTORY_BUFFER)
_directory_bytes = memoryview(_directory).cast("B")
_capability_header = ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0))
_setfsuid, _setfsgid = _libc_at_once.setfsuid, _libc_at_once.setfsgid
_capset = _libc_at_once.capset
# Who the serving thread is to filesystems, as far as groups go.
_fs_gid = os.getegid()


def enter_descriptors() -> None:
    """Make the directory of our descriptors the working directory.

    path_of() then gives a name of one component, which the kernel finds in a
    third of the time.
    """
    global _descriptors
    os.chdir(_DESCRIPTORS)
    _descriptors = ""


def path_of(fd: int) -> str:
    """Return a path to the object of a descriptor, O_PATH ones included.

    It leads to the object itself: not behind a symbolic link, and also where
    its last name is gone.
    """
    return f"{_descriptors}{fd}"


def open_descriptors() -> int:
    """Return how many descriptors the process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # without the one that lists


def hold(fd: int) -> int:
    """open_tree(2): return an O_PATH descriptor of the object that fd is open for.

    Raises OSError.
    """
    if _open_tree is not None:  # of glibc 2.36
        held: int = _open_tree(fd, b"", _AT_EMPTY_PATH | os.O_CLOEXEC)
        if held >= 0:
            return held
    return os.open(path_of(fd), os.O_PATH)  # takes twice as long


def getdents(fd: int) -> bytes:
    """getdents64(2): return the next entries of a directory, for entries(); none at its end.

    Raises OSError.
    """
    length: int = _getdents(fd, _directory, _DIRECTORY_BUFFER)
    if length < 0:
        _check(length)
    return _directory_bytes[:length].tobytes()


def may_be_the_last(batch: bytes) -> bool:
    """Return whether a batch of getdents() had room for another name, of whatever length."""
    return len(batch) <= _DIRECTORY_BUFFER - _LONGEST_ENTRY


def entries(batch: bytes, begin: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield names of a batch of getdents(), from an index in it on.

    With each come the index of the next one and the directory's offset there.
    """
    unpack, end = _ENTRY.unpack_from, len(batch)
    while begin < end:
        _, offset, length, _ = unpack(batch, begin)
        # Behind the NUL there may be anything.
        name, _, _ = batch[begin + _ENTRY.size : begin + length].partition(b"\0")
        begin += length
        yield name, begin, offset


def clone_mount(fd: int) -> int:
    """open_tree(2): return an O_PATH descriptor of a new mount that shows what fd is open for.

    It is in no tree, shows no mount that is below fd's, and ends when its last descriptor
    is closed.

    Raises OSError: EPERM, EINVAL (mounts below are locked, or it is unbindable), ENOSYS.
    """
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC
    clone: int = _libc.syscall(_SYS_OPEN_TREE, fd, b"", flags)
    _check(min(clone, 0))
    return clone


def set_mount_attributes(fd: int, attributes: int, cleared: int) -> None:
    """mount_setattr(2): change MOUNT_ATTR_ flags of a clone, which hears of no other mounts.

    Raises OSError.
    """
    wanted = (ctypes.c_uint64 * 4)(attributes, cleared, _MS_PRIVATE, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, wanted, size))


def open_beneath(fd: int, path: bytes) -> int:
    """openat2(2): return an O_PATH descriptor of a path below fd that no symbolic link is part of.

    Raises OSError.
    """
    return _openat2(fd, path, _RESOLVE_BENEATH)


def open_cached(fd: int, path: bytes) -> int:
    """Do as open_beneath() without asking anybody.  What is mounted on the way is entered.

    Raises OSError: EAGAIN where a filesystem would have to be asked.
    """
    return _openat2(fd, path, _RESOLVE_BENEATH | _RESOLVE_CACHED)


def _openat2(fd: int, path: bytes, resolve: int) -> int:
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for _ in range(_TRIES):
        opened: int = _libc.syscall(_SYS_OPENAT2, fd, path, how, size)
        if opened >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break  # else a rename elsewhere may have come between
    _check(min(opened, 0))
    return opened


def renameat2(source_fd: int, source: bytes, target_fd: int, target: bytes, flags: int) -> None:
    """renameat2(2): rename with RENAME_NOREPLACE, RENAME_EXCHANGE, ..."""
    _check(_libc.renameat2(source_fd, source, target_fd, target, ctypes.c_uint(flags)))


def utimens(path: str, atime: int | None, mtime: int | None) -> None:
    """utimensat(2): set times, in nanoseconds since the epoch; None leaves one as it is."""
    if atime is not None and mtime is not None:
        os.utime(path, ns=(atime, mtime))  # faster than ctypes, and has no word for the others
        return
    times = (_Timespec * 2)(_timespec(atime), _timespec(mtime))
    _check(_libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0))


def file_handle(fd: int) -> tuple[int, bytes]:
    """name_to_handle_at(2): return a mount's id and the handle of fd's object in its filesystem.

    Raises OSError, EOPNOTSUPP where the filesystem has no handles.
    """
    buffer = ctypes.create_string_buffer(_HANDLE_HEADER + _MAX_HANDLE)
    length = ctypes.c_uint.from_buffer(buffer)
    length.value = _MAX_HANDLE
    mount_id = ctypes.c_int()
    _check(_libc.name_to_handle_at(fd, b"", buffer, ctypes.byref(mount_id), _AT_EMPTY_PATH))
    return mount_id.value, buffer.raw[: _HANDLE_HEADER + length.value]


def open_by_handle(anchor: int, handle: bytes, flags: int) -> int:
    """open_by_handle_at(2): open what a handle of anchor's filesystem names.

    anchor is no O_PATH descriptor.  Raises OSError: ESTALE (it is gone), EPERM.
    """
    fd: int = _libc.open_by_handle_at(anchor, handle, flags)
    _check(min(fd, 0))
    return fd


def filesystem_type(fd: int) -> int:
    """fstatfs(2): return f_type, the kind of filesystem that fd's object is in.

    Raises OSError.
    """
    buffer = ctypes.create_string_buffer(_MOST_OF_STATFS)
    _check(_libc.fstatfs(fd, buffer))
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


class Known(NamedTuple):
    """What the kernel knows of an object: the number of its filesystem, as "0:39", and its own."""

    device: str
    ino: int


def known_of(fd: int) -> Known | None:
    """Call statx(2) without asking the filesystem; None where it does not say.

    So the object may be this daemon's own.
    """
    answer = ctypes.create_string_buffer(_STATX_SIZE)
    flags = _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    if _libc.statx(fd, b"", flags, _STATX_INO, answer):
        return None
    mask, ino, major, minor = _STATX.unpack_from(answer)
    return Known(f"{major}:{minor}", ino) if mask & _STATX_INO else None


def inotify() -> int:
    """inotify_init1(2): return a descriptor whose reads do not wait.  Raises OSError."""
    fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    _check(min(fd, 0))
    return fd


def watch(fd: int, path: str) -> int:
    """inotify_add_watch(2): return the watch of a path's object, which tells of its removal.

    Raises OSError.
    """
    wd: int = _libc.inotify_add_watch(fd, os.fsencode(path), IN_DELETE_SELF)
    _check(min(wd, 0))
    return wd


def unwatch(fd: int, wd: int) -> None:
    """inotify_rm_watch(2).  Raises OSError."""
    _check(_libc.inotify_rm_watch(fd, wd))


def sync_file(fd: int) -> None:
    """sync_file_range(2): have a file's pages in memory written, and wait for that alone.

    Raises OSError.
    """
    nothing = ctypes.c_int64(0)  # from the beginning, to the end
    _check(_libc.sync_file_range(fd, nothing, nothing, ctypes.c_uint(_SYNC_ALL)))


def set_fs_uid(uid: int) -> None:
    """setfsuid(2): who this thread is to filesystems.

    Leaving uid 0 takes the capabilities about files, coming back gives them.
    """
    _setfsuid(uid)


def set_fs_gid(gid: int) -> None:
    """setfsgid(2): of which group the serving thread, and no other, is to filesystems."""
    global _fs_gid
    if gid != _fs_gid:
        _setfsgid(gid)
        _fs_gid = gid


def give_up_resource_capability() -> None:
    """capset(2): be bound by disk quotas, from now on and in threads to come.

    Raises OSError.
    """
    capabilities = _own_capabilities()
    capabilities[0].permitted &= ~(1 << _CAP_SYS_RESOURCE)
    for each in capabilities:
        each.effective = each.permitted
    _check(_capset(_capability_header, capabilities))
    _regained.cache_clear()


def regain_capabilities(*without: int) -> None:
    """capset(2): have again what give_up_resource_capability() left, without some.

    Raises OSError.
    """
    if _capset(_capability_header, _regained(*without)):
        _check(-1)


@cache
def _regained(*without: int) -> ctypes.Array[_Capabilities]:
    """Return what the process may have, without some."""
    capabilities = _own_capabilities()
    for each in capabilities:
        each.effective = each.permitted
    capabilities[0].effective &= ~sum(1 << each for each in without)
    return capabilities


def _own_capabilities() -> ctypes.Array[_Capabilities]:
    """capget(2).  Raises OSError."""
    capabilities = (_Capabilities * 2)()
    _check(_libc.capget(_capability_header, capabilities))
    return capabilities


def _timespec(nanoseconds: int | None) -> _Timespec:
    if nanoseconds is None:
        return _Timespec(0, _UTIME_OMIT)
    return _Timespec(*divmod(nanoseconds, _NANOSECONDS))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
