# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that the os module lacks, and paths for descriptors.

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
# For calls that never sleep: it is faster, since the GIL is not released.
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
# How many bytes of a directory are read at a time: one or two hundred names.
_DIRECTORY_BUFFER = 4096
# struct linux_dirent64: inode number, offset of the next entry, length and type of this one; the
# name follows.
_ENTRY = struct.Struct("=QqHB")
_LONGEST_ENTRY = _ENTRY.size + 255 + 1 + 7  # with NUL and padding
# SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER.
_SYNC_ALL = 7
# In bytes, more than struct statfs has on any architecture.
_MOST_OF_STATFS = 512
_DESCRIPTORS = "/proc/self/fd/"
# The beginning of the paths that path_of() returns.
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
    """The sets of 32 capabilities.  Linux has two of these structures for 64 capabilities."""

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
# The group of the serving thread for access to filesystems.
_fs_gid = os.getegid()


def enter_descriptors() -> None:
    """Make the directory of our descriptors the working directory.

    path_of() then returns a path of one component, which the kernel resolves in a
    third of the time.
    """
    global _descriptors
    os.chdir(_DESCRIPTORS)
    _descriptors = ""


def path_of(fd: int) -> str:
    """Return a path to the object of a descriptor, O_PATH ones included.

    The path leads to the object itself: a symbolic link is not followed, and an
    object without a name is found, too.
    """
    return f"{_descriptors}{fd}"


def open_descriptors() -> int:
    """Return how many descriptors the process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # without that of the listing


def hold(fd: int) -> int:
    """open_tree(2): return an O_PATH descriptor of fd's object.

    Raises OSError.
    """
    if _open_tree is not None:  # of glibc 2.36
        held: int = _open_tree(fd, b"", _AT_EMPTY_PATH | os.O_CLOEXEC)
        if held >= 0:
            return held
    return os.open(path_of(fd), os.O_PATH)  # takes twice as long


def getdents(fd: int) -> bytes:
    """getdents64(2): return the next entries of a directory, for entries(); b"" at its end.

    Raises OSError.
    """
    length: int = _getdents(fd, _directory, _DIRECTORY_BUFFER)
    if length < 0:
        _check(length)
    return _directory_bytes[:length].tobytes()


def may_be_the_last(batch: bytes) -> bool:
    """Return whether a batch of getdents() had room for another name of any length."""
    return len(batch) <= _DIRECTORY_BUFFER - _LONGEST_ENTRY


def entries(batch: bytes, begin: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the names in a batch of getdents(), from the index begin on.

    Each comes with the index of the next entry, and the directory's offset there.
    """
    unpack, end = _ENTRY.unpack_from, len(batch)
    while begin < end:
        _, offset, length, _ = unpack(batch, begin)
        # After the NUL there may be arbitrary bytes.
        name, _, _ = batch[begin + _ENTRY.size : begin + length].partition(b"\0")
        begin += length
        yield name, begin, offset


def clone_mount(fd: int) -> int:
    """open_tree(2): return an O_PATH descriptor of a new mount that shows fd's directory.

    The mount is not in the tree, does not contain the mounts below fd, and ends when its last
    descriptor is closed.

    Raises OSError: EPERM, EINVAL (mounts below are locked, or it is unbindable), ENOSYS.
    """
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC
    clone: int = _libc.syscall(_SYS_OPEN_TREE, fd, b"", flags)
    _check(min(clone, 0))
    return clone


def set_mount_attributes(fd: int, attributes: int, cleared: int) -> None:
    """mount_setattr(2): change MOUNT_ATTR_ flags of a clone, and make its propagation private.

    Raises OSError.
    """
    wanted = (ctypes.c_uint64 * 4)(attributes, cleared, _MS_PRIVATE, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, wanted, size))


def open_beneath(fd: int, path: bytes) -> int:
    """openat2(2): return an O_PATH descriptor for a path below fd without symbolic links in it.

    Raises OSError.
    """
    return _openat2(fd, path, _RESOLVE_BENEATH)


def open_cached(fd: int, path: bytes) -> int:
    """Do what open_beneath() does without asking a filesystem.  Mounts on the way are entered.

    Raises OSError: EAGAIN if a filesystem would have to be asked.
    """
    return _openat2(fd, path, _RESOLVE_BENEATH | _RESOLVE_CACHED)


def _openat2(fd: int, path: bytes, resolve: int) -> int:
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for _ in range(_TRIES):
        opened: int = _libc.syscall(_SYS_OPENAT2, fd, path, how, size)
        if opened >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break  # EAGAIN may come from a rename elsewhere at the same time
    _check(min(opened, 0))
    return opened


def renameat2(source_fd: int, source: bytes, target_fd: int, target: bytes, flags: int) -> None:
    """renameat2(2): rename with RENAME_NOREPLACE, RENAME_EXCHANGE, ..."""
    _check(_libc.renameat2(source_fd, source, target_fd, target, ctypes.c_uint(flags)))


def utimens(path: str, atime: int | None, mtime: int | None) -> None:
    """utimensat(2): set times, in nanoseconds since the epoch; None leaves one as it is."""
    if atime is not None and mtime is not None:
        os.utime(path, ns=(atime, mtime))  # faster than ctypes, but can only set both
        return
    times = (_Timespec * 2)(_timespec(atime), _timespec(mtime))
    _check(_libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0))


def file_handle(fd: int) -> tuple[int, bytes]:
    """name_to_handle_at(2): return the id of fd's mount, and the file handle of fd's object.

    Raises OSError; EOPNOTSUPP if the filesystem has no handles.
    """
    buffer = ctypes.create_string_buffer(_HANDLE_HEADER + _MAX_HANDLE)
    length = ctypes.c_uint.from_buffer(buffer)
    length.value = _MAX_HANDLE
    mount_id = ctypes.c_int()
    _check(_libc.name_to_handle_at(fd, b"", buffer, ctypes.byref(mount_id), _AT_EMPTY_PATH))
    return mount_id.value, buffer.raw[: _HANDLE_HEADER + length.value]


def handle_of_name(fd: int, name: bytes) -> bytes:
    """name_to_handle_at(2): return the handle of a directory's entry, as file_handle() does.

    Raises OSError.
    """
    buffer = ctypes.create_string_buffer(_HANDLE_HEADER + _MAX_HANDLE)
    length = ctypes.c_uint.from_buffer(buffer)
    length.value = _MAX_HANDLE
    _check(_libc_at_once.name_to_handle_at(fd, name, buffer, ctypes.byref(ctypes.c_int()), 0))
    return buffer.raw[: _HANDLE_HEADER + length.value]


def open_by_handle(anchor: int, handle: bytes, flags: int) -> int:
    """open_by_handle_at(2): open the object of a file handle of anchor's filesystem.

    anchor must not be an O_PATH descriptor.  Raises OSError: ESTALE (the object is gone), EPERM.
    """
    fd: int = _libc.open_by_handle_at(anchor, handle, flags)
    _check(min(fd, 0))
    return fd


def path_now(fd: int) -> bytes:
    """Return the path of an open object now; b"" if it is longer than 4,095 bytes.

    Raises OSError.
    """
    try:
        return os.readlink(os.fsencode(path_of(fd)))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return b""
        raise


def filesystem_type(fd: int) -> int:
    """fstatfs(2): return f_type, the type of the filesystem of fd's object.

    Raises OSError.
    """
    buffer = ctypes.create_string_buffer(_MOST_OF_STATFS)
    _check(_libc.fstatfs(fd, buffer))
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


class Known(NamedTuple):
    """What the kernel knows of an object: its filesystem's number, as in "0:39", and its own."""

    device: str
    ino: int


def known_of(fd: int) -> Known | None:
    """Call statx(2) without asking the filesystem; return None if the kernel does not know.

    So it may be called for an object on this daemon's own mount.
    """
    answer = ctypes.create_string_buffer(_STATX_SIZE)
    flags = _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    if _libc.statx(fd, b"", flags, _STATX_INO, answer):
        return None
    mask, ino, major, minor = _STATX.unpack_from(answer)
    return Known(f"{major}:{minor}", ino) if mask & _STATX_INO else None


def inotify() -> int:
    """inotify_init1(2): return a new descriptor, whose reads do not wait.  Raises OSError."""
    fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    _check(min(fd, 0))
    return fd


def watch(fd: int, path: str) -> int:
    """inotify_add_watch(2): watch the object at a path for its removal; return the descriptor.

    Raises OSError.
    """
    wd: int = _libc.inotify_add_watch(fd, os.fsencode(path), IN_DELETE_SELF)
    _check(min(wd, 0))
    return wd


def unwatch(fd: int, wd: int) -> None:
    """inotify_rm_watch(2).  Raises OSError."""
    _check(_libc.inotify_rm_watch(fd, wd))


def sync_file(fd: int) -> None:
    """sync_file_range(2): write a file's dirty pages, and wait only for that.

    Raises OSError.
    """
    nothing = ctypes.c_int64(0)  # offset and length 0: the whole file
    _check(_libc.sync_file_range(fd, nothing, nothing, ctypes.c_uint(_SYNC_ALL)))


def set_fs_uid(uid: int) -> None:
    """setfsuid(2): set the user of this thread for access to filesystems.

    Changing from uid 0 removes the capabilities for files, changing back restores them.
    """
    _setfsuid(uid)


def set_fs_gid(gid: int) -> None:
    """setfsgid(2): set the group of the serving thread for access to filesystems.

    Only the serving thread may call this.
    """
    global _fs_gid
    if gid != _fs_gid:
        _setfsgid(gid)
        _fs_gid = gid


def give_up_resource_capability() -> None:
    """capset(2): be bound by disk quotas, in this thread and in later ones.

    Raises OSError.
    """
    capabilities = _own_capabilities()
    capabilities[0].permitted &= ~(1 << _CAP_SYS_RESOURCE)
    for each in capabilities:
        each.effective = each.permitted
    _check(_capset(_capability_header, capabilities))
    _regained.cache_clear()


def regain_capabilities(*without: int) -> None:
    """capset(2): regain the capabilities that give_up_resource_capability() left, except some.

    Raises OSError.
    """
    if _capset(_capability_header, _regained(*without)):
        _check(-1)


@cache
def _regained(*without: int) -> ctypes.Array[_Capabilities]:
    """Return all capabilities that the process may have, except some."""
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
