# SPDX-License-Identifier: GPL-2.0-or-later
"""fanotify(7): what is done to a filesystem, by whomever, in the order in which it is done.

fs.behind listens by it.  Linux: fs/notify/fanotify/fanotify_user.c.  Objects are told by their
file handles (name_to_handle_at(2)), and of those kinds of filesystems that are known here a
handle says the inode number, so that what nobody knows is told apart by a look into a table.

Invariant
    A record of ours is one of this process, by whichever of its threads: the kernel says
        that to everybody.  To whom it says no other numbers, others' are 0.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from fusenotify.fs.syscalls import AT_FDCWD, file_handle, filesystem_type, path_of

FAN_ACCESS = 0x01
FAN_MODIFY = 0x02
FAN_ATTRIB = 0x04
FAN_CLOSE_WRITE = 0x08
FAN_CLOSE_NOWRITE = 0x10
FAN_OPEN = 0x20
FAN_CREATE = 0x100
FAN_DELETE = 0x200
FAN_Q_OVERFLOW = 0x4000
FAN_EVENT_ON_CHILD = 0x08000000
FAN_RENAME = 0x10000000
FAN_ONDIR = 0x40000000
# What changes a name.
NAMES = FAN_CREATE | FAN_DELETE | FAN_RENAME
# All that changes something.
CHANGES = NAMES | FAN_MODIFY | FAN_ATTRIB
# What is only to be heard of.
ON_DEMAND = FAN_ACCESS | FAN_OPEN | FAN_CLOSE_WRITE | FAN_CLOSE_NOWRITE

_CLOEXEC, _NONBLOCK = 0x1, 0x2
# FAN_REPORT_DFID_NAME_TARGET.
_REPORT = 0x200 | 0x400 | 0x800 | 0x1000
_MARK_ADD, _MARK_REMOVE, _MARK_FILESYSTEM = 0x1, 0x2, 0x100
# Of struct fanotify_event_info_header: the objects' own handle, a directory with a name, the
# same before and behind a rename.
_FID, _DFID_NAME, _OLD_NAME, _NEW_NAME = 1, 2, 10, 12
# event_len, mask, pid; then the first info's len and fsid.
_FIRST = struct.Struct("=I4xQ4xi2xHQ8x")
_METADATA = 24
# An info: type, len; fsid, length and type of the handle follow, then the handle.
_INFO = struct.Struct("=BxH8xI")
_INFO_HEADER = 4
_KEY_HEADER = 16
_BUFFER = 1 << 16
_FSID = struct.Struct("=Q")

_libc = ctypes.CDLL(None, use_errno=True)

# How a handle of a kind of filesystem (statfs(2)'s f_type) says the inode number: ext2 to ext4
# and f2fs by FILEID_INO32_GEN, tmpfs behind a generation, xfs as 64 bits.
_INO32 = struct.Struct("=I").unpack_from, 0
_INO64 = struct.Struct("=Q").unpack_from
_NUMBERS = {
    0xEF53: _INO32,
    0xF2F52010: _INO32,
    0x01021994: (_INO64, 4),
    0x58465342: (_INO64, 0),
}

Unpack = Callable[[bytes | bytearray, int], tuple[int]]


@dataclass(frozen=True, slots=True)
class Disk:
    """A filesystem: its st_dev, and how its handles say an inode number, at which byte."""

    device: int
    unpack: Unpack
    offset: int

    def ino(self, handle: bytes) -> int:
        """Return the inode number of a handle as Record has them."""
        return self.unpack(handle, _KEY_HEADER + self.offset)[0]


class Record:
    """What was done, by a process, to an object.

    mask has FAN_ bits, of several calls where they follow each other.  directory is that of name,
    or where name is "." the directory itself; without one it is only known which object it is.
    Of a rename they are those before it, new_directory and new_name those behind it.
    target is the object's handle.  All handles begin with the filesystem's fsid.

    number, taken and behind are fs.pending's: its place, whether it was told with another one,
    and what is told right behind it.
    """

    __slots__ = (
        "behind",
        "directory",
        "mask",
        "name",
        "new_directory",
        "new_name",
        "number",
        "pid",
        "taken",
        "target",
    )

    def __init__(self, mask: int, pid: int) -> None:
        self.mask = mask
        self.pid = pid
        self.directory: bytes | None = None
        self.name = b""
        self.new_directory: bytes | None = None
        self.new_name = b""
        self.target: bytes | None = None
        self.number = 0
        self.taken = False
        self.behind: tuple[Record, ...] = ()

    @property
    def is_dir(self) -> bool:
        return bool(self.mask & FAN_ONDIR)

    def is_about(self, name: bytes) -> bool:
        """Return whether a name of it is this one, in whichever directory."""
        return name in (self.name, self.new_name)


class Fanotify:
    """A group of marks, and the queue of what they hear.

    disks are the filesystems that are heard, by fsid, and fsids these, by st_dev.  read_in_all
    counts the records that were read, own those of them that are ours.

    Raises OSError: ENOSYS, EPERM, EINVAL (the kernel has no such records), EMFILE.
    """

    def __init__(self) -> None:
        flags = _CLOEXEC | _NONBLOCK | _REPORT
        init = getattr(_libc, "fanotify_init", None)
        if init is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self.fd: int = init(ctypes.c_uint(flags), ctypes.c_uint(os.O_RDONLY | os.O_CLOEXEC))
        _check(self.fd)
        self.disks: dict[int, Disk] = {}
        self.fsids: dict[int, bytes] = {}
        self.own = self.read_in_all = 0
        self._pid = os.getpid()
        # Behind what is read there are zeros: a record without an info is looked at as if it had.
        self._buffer = bytearray(_BUFFER + _FIRST.size)
        self._room = [memoryview(self._buffer)[:_BUFFER]]

    def close(self) -> None:
        os.close(self.fd)

    def know(self, fd: int) -> Disk:
        """Learn how the filesystem of an object, of which fd is a descriptor, tells objects.

        Raises OSError, EOPNOTSUPP where that is not known.
        """
        status = os.fstat(fd)
        fsid = os.fstatvfs(fd).f_fsid & 0xFFFFFFFFFFFFFFFF
        _, handle = file_handle(fd)
        with suppress(KeyError, struct.error):
            disk = Disk(status.st_dev, *_NUMBERS[filesystem_type(fd)])
            if fsid and disk.ino(_FSID.pack(fsid) + handle) == status.st_ino:
                self.disks[fsid] = disk
                self.fsids[disk.device] = _FSID.pack(fsid)
                return disk
        raise OSError(errno.EOPNOTSUPP, "its objects cannot be told apart")

    def key(self, fd: int, device: int) -> bytes:
        """Return the handle of an object as records have it; device is its st_dev.

        Raises OSError.
        """
        return self.fsids[device] + file_handle(fd)[1]

    def mark_filesystem(self, fd: int, mask: int, on: bool = True) -> None:
        """Hear, or do not hear any more, what is done in the whole filesystem of an object.

        Raises OSError.
        """
        self._mark(fd, (_MARK_ADD if on else _MARK_REMOVE) | _MARK_FILESYSTEM, mask)

    def mark(self, fd: int, mask: int, on: bool = True) -> None:
        """Hear, or do not hear any more, what is done to an object.

        Raises OSError, ENOSPC where the user has too many marks.
        """
        self._mark(fd, _MARK_ADD if on else _MARK_REMOVE, mask)

    def queued(self) -> int:
        """Return how many records there are to be read, at most.

        FIONREAD counts of each what is in front of its handles, or all of it.
        """
        length = bytearray(4)
        fcntl.ioctl(self.fd, termios.FIONREAD, length)
        return int.from_bytes(length, sys.byteorder) // _METADATA

    def read(self) -> int:
        """Read records, for records(); return how many bytes, 0 where there are none."""
        try:
            return os.readv(self.fd, self._room)
        except BlockingIOError:
            return 0

    def records(self, length: int, wanted: Callable[[int, int, int], bool]) -> Iterator[Record]:
        """Yield what read() read, but for what wanted() says is about nothing that is known.

        It is asked with a filesystem's st_dev, an inode number and the mask.  Of ours only changes
        of names are given.
        """
        buffer, own, begin = self._buffer, self._pid, 0
        unpack = _FIRST.unpack_from
        while begin < length:
            size, mask, pid, info, fsid = unpack(buffer, begin)
            end = begin + size
            self.read_in_all += 1
            if pid == own:
                self.own += 1
                if mask & NAMES:
                    yield self._record(begin, end, mask, pid)
            elif mask & FAN_Q_OVERFLOW:
                yield Record(mask, pid)
            elif (disk := self.disks.get(fsid)) is not None:
                at = begin + _METADATA + _INFO_HEADER + _KEY_HEADER + disk.offset
                heard = wanted(disk.device, disk.unpack(buffer, at)[0], mask)
                at += info
                while not heard and at < end:
                    heard = wanted(disk.device, disk.unpack(buffer, at)[0], mask)
                    at += _INFO.unpack_from(buffer, at - disk.offset - 20)[1]
                if heard:
                    yield self._record(begin, end, mask, pid)
            begin = end

    def _record(self, begin: int, end: int, mask: int, pid: int) -> Record:
        record = Record(mask, pid)
        buffer, at = self._buffer, begin + _METADATA
        while at < end:
            kind, size, bytes_of_handle = _INFO.unpack_from(buffer, at)
            name_at = at + _INFO_HEADER + _KEY_HEADER + bytes_of_handle
            handle = bytes(buffer[at + _INFO_HEADER : name_at])
            if kind == _FID:
                record.target = handle
            else:
                name = bytes(buffer[name_at : at + size]).split(b"\0", 1)[0]
                if kind in (_DFID_NAME, _OLD_NAME):
                    record.directory, record.name = handle, name
                elif kind == _NEW_NAME:
                    record.new_directory, record.new_name = handle, name
            at += size
        return record

    def _mark(self, fd: int, flags: int, mask: int) -> None:
        path = os.fsencode(path_of(fd))
        _check(
            _libc.fanotify_mark(
                self.fd, ctypes.c_uint(flags), ctypes.c_uint64(mask), AT_FDCWD, path
            )
        )


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_REASONS = {
    errno.ENOSYS: "this kernel has no fanotify",
    errno.EPERM: "only root hears of a whole filesystem",
    errno.EINVAL: "this kernel's fanotify has no names and handles (Linux 5.17 has)",
    errno.EOPNOTSUPP: "the handles of SOURCE's kind of filesystem are not known",
    errno.EXDEV: "the filesystem of SOURCE has several of its own (subvolumes)",
    errno.ENODEV: "the filesystem of SOURCE has no number of its own",
    errno.EMFILE: "the user has as many fanotify groups as the kernel allows",
    errno.ENOSPC: "the user has as many marks as fs.fanotify.max_user_marks allows",
}


def why_not_heard(error: OSError) -> str:
    """Return the reason for which it cannot be had, for people."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)
