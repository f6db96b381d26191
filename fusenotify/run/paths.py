# SPDX-License-Identifier: GPL-2.0-or-later
"""Resolve a path as another process would: with its root, its directory and its rights.

run.calls uses it.  The result is a descriptor (O_PATH), so that later renames do not matter.

A path that is in the kernel's caches is resolved at once, which cannot block.  Other paths
are resolved in a thread, because a filesystem may be slow, or may be served by a program
that waits for us.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fusenotify.client.locate import Opened
from fusenotify.run.target import Target

_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_CACHED = 0x20
_OPEN_HOW = struct.Struct("=QQQ")

# Names in /proc and /dev that stand for the calling process, which is not ours.
_SELF = re.compile(
    rb"/+(?:proc/+(?:self|thread-self)(?=/|$)|dev/+(?:fd(?=/|$)|(?:stdin|stdout|stderr)$))"
)
_STANDARD = {b"stdin": b"0", b"stdout": b"1", b"stderr": b"2"}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a thread: its filesystem user and group, and further groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, target: Target) -> Credentials:
        """Return the credentials of a thread.  Raises OSError if it is gone."""
        status = target.status()
        groups = tuple(sorted(int(group) for group in status[b"Groups"].split()))
        return cls(int(status[b"Uid"].split()[3]), int(status[b"Gid"].split()[3]), groups)


async def opened(target: Target, path: bytes, *, follow: bool, directory: bool) -> Opened:
    """Return the object that a path leads to for a thread, which must be allowed to read it.

    follow: a symbolic link at the end is followed.  directory: anything else is refused.

    Raises OSError: as inotify_add_watch(2) for the path.
    """
    if not path:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    flags = os.O_PATH | os.O_CLOEXEC
    flags |= (0 if follow else os.O_NOFOLLOW) | (os.O_DIRECTORY if directory else 0)
    path = _SELF.sub(lambda found: _means(target, found[0]), path, count=1)
    strangers = _strangers(target)
    if strangers is not None:
        return await asyncio.to_thread(_as_them, strangers, lambda: _open(target, path, flags))
    try:
        return _open(target, path, flags, _RESOLVE_CACHED)
    except BlockingIOError:
        return await asyncio.to_thread(_open, target, path, flags)


def _means(target: Target, words: bytes) -> bytes:
    """Return the path that stands for /proc/self, /dev/fd or similar words of a thread."""
    last = words.rsplit(b"/", 1)[1]
    if last == b"fd":
        return target.proc + b"fd"
    if last in _STANDARD:
        return target.proc + b"fd/" + _STANDARD[last]
    return target.proc[:-1] if last == b"thread-self" else b"/proc/%b" % target.status()[b"Tgid"]


def _strangers(target: Target) -> Credentials | None:
    """Return the credentials of a thread if they differ from ours, otherwise None."""
    theirs = Credentials.of(target)
    ours = Credentials(os.geteuid(), os.getegid(), tuple(sorted(os.getgroups())))
    return None if theirs == ours else theirs


def _open(target: Target, path: bytes, flags: int, resolve: int = 0) -> Opened:
    absolute = path.startswith(b"/")
    if absolute and (_has_our_root(target) or path.startswith(b"/proc/")):
        return _open_at(-100, path, flags, resolve)
    where = target.proc + (b"root" if absolute else b"cwd")
    start = Opened(os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    if absolute or not _has_our_root(target):
        # Absolute symbolic links start at the thread's root.
        if not absolute:
            root = os.readlink(target.proc + b"root").rstrip(b"/")
            path = os.readlink(where).removeprefix(root) + b"/" + path
            start = Opened(os.open(target.proc + b"root", os.O_PATH | os.O_CLOEXEC))
        resolve |= _RESOLVE_IN_ROOT
    return _open_at(start.number, path, flags, resolve)


def _has_our_root(target: Target) -> bool:
    """Return whether absolute paths mean the same for the thread as for us."""
    theirs, ours = target.proc, b"/proc/self/"
    return os.path.samestat(os.stat(theirs + b"root"), os.stat(ours + b"root")) and (
        os.readlink(theirs + b"ns/mnt") == os.readlink(ours + b"ns/mnt")
    )


def _open_at(start: int, path: bytes, flags: int, resolve: int) -> Opened:
    """Call openat2(2).  Raises OSError: EAGAIN if _RESOLVE_CACHED is not enough."""
    how = ctypes.create_string_buffer(_OPEN_HOW.pack(flags, 0, resolve), _OPEN_HOW.size)
    number = _libc.syscall(
        ctypes.c_long(_OPENAT2), start, path, how, ctypes.c_size_t(_OPEN_HOW.size)
    )
    if number < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return Opened(number)


def _as_them(who: Credentials, work: Callable[[], Opened]) -> Opened:
    """Call work in a new thread with another's rights, and check that these allow reading.

    Raises OSError: EACCES, or what work raises.
    """
    found: list[Opened] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            _become(who)
            opened = work()
            if not os.access(b"/proc/self/fd/%d" % opened.number, os.R_OK, effective_ids=True):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            found.append(opened)
        except BaseException as error:
            failed.append(error)

    # The rights end with the thread: nothing else ever runs in it.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _become(who: Credentials) -> None:
    """Take credentials for filesystem access, in this thread only."""
    # Plain system calls, because libc's functions change all threads.
    numbers = _SET[os.uname().machine]
    groups = (ctypes.c_uint32 * len(who.groups))(*who.groups)
    _libc.syscall(ctypes.c_long(numbers[0]), ctypes.c_long(len(who.groups)), groups)
    _libc.syscall(ctypes.c_long(numbers[1]), ctypes.c_long(who.gid))
    _libc.syscall(ctypes.c_long(numbers[2]), ctypes.c_long(who.uid))


# The numbers of setgroups, setfsgid and setfsuid, in their variants with 32-bit ids.
_SET = {"x86_64": (116, 123, 122), "aarch64": (159, 152, 151), "i686": (206, 216, 215)}
