# SPDX-License-Identifier: GPL-2.0-or-later
"""fanotify(7): records of all changes in a filesystem, in order, whoever makes them.

behind.listening uses it.  Linux: fs/notify/fanotify/fanotify_user.c.  Records name objects by file
handles (name_to_handle_at(2)).  In the kinds of filesystems that are known here, a handle
contains the inode number, so that objects that are not known are skipped by a table lookup.

Invariant
    A record is ours if its pid is this process, whichever thread caused it.  All users get their
        own pid; users that may not see other pids get 0 for them.
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
# The mask of the record about an empty directory that a rename replaced.
REPLACED = FAN_ATTRIB | FAN_ONDIR
# All that changes something.
CHANGES = NAMES | FAN_MODIFY | FAN_ATTRIB
# What changes nothing: heard only while a watch asks for it.
ON_DEMAND = FAN_ACCESS | FAN_OPEN | FAN_CLOSE_WRITE | FAN_CLOSE_NOWRITE

_CLOEXEC, _NONBLOCK = 0x1, 0x2
# FAN_REPORT_DFID_NAME_TARGET.
_REPORT = 0x200 | 0x400 | 0x800 | 0x1000
_MARK_ADD, _MARK_REMOVE, _MARK_FILESYSTEM = 0x1, 0x2, 0x100
# Types in struct fanotify_event_info_header: the object's own handle; a directory and a name; the
# same before a rename, and after it.
_FID, _DFID_NAME, _OLD_NAME, _NEW_NAME = 1, 2, 10, 12
# event_len, mask, pid; then the first info's len and fsid.
_FIRST = struct.Struct("=I4xQ4xi2xHQ8x")
_SIZE_AND_PID = struct.Struct("=I16xi")
_METADATA = 24
# An info: type and length; fsid; length of the handle.  Its type and the handle follow.
_INFO = struct.Struct("=BxH8xI")
_INFO_HEADER = 4
_KEY_HEADER = 16
_TOO_LONG = b"x" * 256
_BUFFER = 1 << 16
# After a read of more bytes than this there may be more records; the longest has two long names.
FULL = _BUFFER - 4096
_FSID = struct.Struct("=Q")

_libc = ctypes.CDLL(None, use_errno=True)

# How the handles of a kind of filesystem (statfs(2)'s f_type) contain the inode number: ext2 to
# ext4 and f2fs as FILEID_INO32_GEN, tmpfs after a generation, xfs as 64 bits.
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
    """A filesystem: its st_dev, and how and at which byte handles contain the inode number."""

    device: int
    unpack: Unpack
    offset: int

    def ino(self, handle: bytes) -> int:
        """Return the inode number in a handle of a Record."""
        return self.unpack(handle, _KEY_HEADER + self.offset)[0]


class Record:
    """A record: what a process did to an object.

    mask has FAN_ bits, of several calls if these follow each other.  target is the handle of
    the object.  directory is the handle of the directory in which the object has name, or of
    the object itself if name is "."; it is None if only the object is known.  For a rename,
    these are from before it, and new_directory and new_name from after it.  All handles begin
    with the filesystem's fsid.

    behind.pending uses number, the record's place; taken, whether it was told with another record;
    and behind, the records that are told right after it.
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
        self.number: float = 0
        self.taken = False
        self.behind: tuple[Record, ...] = ()

    @property
    def is_dir(self) -> bool:
        return bool(self.mask & FAN_ONDIR)


class Fanotify:
    """A group of marks, and the queue of its records.

    disks maps the fsids of the filesystems that are heard to Disks; fsids maps their st_dev to
    fsids.  read_in_all counts the records that were read, and own those of them that are ours.

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
        # Zeros follow the bytes that are read, so that a record without an info can be unpacked
        # as if it had one.
        self._buffer = bytearray(_BUFFER + _FIRST.size)
        self._room = [memoryview(self._buffer)[:_BUFFER]]

    def close(self) -> None:
        os.close(self.fd)

    def know(self, fd: int) -> Disk:
        """Find out how the filesystem of an open object makes handles; return its Disk.

        Raises OSError: EOPNOTSUPP if that is not known.
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
        raise OSError(errno.EOPNOTSUPP, _REASONS[errno.EOPNOTSUPP])

    def key(self, fd: int, device: int) -> bytes:
        """Return the handle of an open object as in records; device is its st_dev.

        Raises OSError: EOPNOTSUPP if the filesystem is not heard.
        """
        fsid = self.fsids.get(device)
        if fsid is None:
            raise OSError(errno.EOPNOTSUPP, _REASONS[errno.EOPNOTSUPP])
        return fsid + file_handle(fd)[1]

    def mark_filesystem(self, fd: int, mask: int, on: bool = True) -> None:
        """Add bits to the mark of an open object's whole filesystem, or remove them.

        Raises OSError.
        """
        self._mark(fd, (_MARK_ADD if on else _MARK_REMOVE) | _MARK_FILESYSTEM, mask)

    def mark(self, fd: int, mask: int, on: bool = True) -> None:
        """Add bits to the mark of an open object, or remove them.

        Raises OSError: ENOSPC if the user has too many marks.
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
        """Read records, for records(); return how many bytes were read, 0 if there are none."""
        try:
            return os.readv(self.fd, self._room)
        except BlockingIOError:
            return 0

    def has_only_echoes(self, length: int) -> bool:
        """Return whether read() read only records that are ours; then it counts them as read."""
        buffer, own, begin, count = self._buffer, self._pid, 0, 0
        unpack = _SIZE_AND_PID.unpack_from
        while begin < length:
            size, pid = unpack(buffer, begin)
            if pid != own:
                return False
            count += 1
            begin += size
        self.read_in_all += count
        self.own += count
        return True

    def records(self, length: int, wanted: Callable[[int, int, int], bool]) -> Iterator[Record]:
        """Yield the records that read() read, except those that are not wanted.

        wanted() is called with an st_dev, an inode number and the mask; a record is yielded if
        that returns true for one of its objects.  Of our own records, only changes of names are
        yielded, and what may be about a directory that a rename replaced.
        """
        buffer, own, begin = self._buffer, self._pid, 0
        unpack = _FIRST.unpack_from
        while begin < length:
            size, mask, pid, info, fsid = unpack(buffer, begin)
            end = begin + size
            self.read_in_all += 1
            if pid == own:
                self.own += 1
                if mask & NAMES or mask == REPLACED:
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


def await_records(directory: int) -> None:
    """Wait until the records of all changes of a directory's names that show are queued.

    The kernel makes a change and queues its record under the directory's lock, for which the
    lookup of a name waits.  A name that is too long leaves nothing in the kernel.
    """
    with suppress(OSError):
        os.stat(_TOO_LONG, dir_fd=directory)


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_REASONS = {
    errno.ENOSYS: "this kernel has no fanotify, or a filter of system calls hides it",
    errno.EPERM: "fanotify or file handles are forbidden here",
    errno.EINVAL: "this kernel's fanotify has no names and handles (Linux 5.17 has)",
    errno.EOPNOTSUPP: "the handles of SOURCE's kind of filesystem are not known",
    errno.EXDEV: "the filesystem of SOURCE has several of its own (subvolumes)",
    errno.ENODEV: "the filesystem of SOURCE has no number of its own",
    errno.EMFILE: "the user has as many fanotify groups as the kernel allows",
    errno.ENOSPC: "the user has as many marks as fs.fanotify.max_user_marks allows",
}


def why_not_heard(error: OSError) -> str:
    """Return why fanotify cannot be used, as a text for messages."""
    code, said = error.errno or 0, error.strerror or str(error)
    return _REASONS.get(code, said) if said == os.strerror(code) else said
