# SPDX-License-Identifier: GPL-2.0-or-later
"""Walk a path step by step as another process would, where openat2(2) cannot.

run.paths calls walk() for paths that lead through /proc.  There, "self" is the process that asks,
and a link such as "cwd" or "fd/3" leads to an object, wherever that is.  No call resolves a path
for another process.  So each name is opened by itself here, and the links that depend on the
process are followed as the other process would.

Invariant
    ".." does not lead out of the process's root.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections import deque

from fusenotify.client.locate import Opened
from fusenotify.run.filesystems import is_in_proc
from fusenotify.run.target import Target, status_at

_OPENAT2 = 437
NO_MAGICLINKS = 0x02
IN_ROOT = 0x10
CACHED = 0x20
_OPEN_HOW = struct.Struct("=QQQ")

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
_PROC_ROOT_INO = 1

_libc = ctypes.CDLL(None, use_errno=True)


def open_at(start: int, path: bytes, flags: int, resolve: int = 0) -> Opened:
    """Call openat2(2).  Raises OSError: EAGAIN if CACHED is in resolve and not enough."""
    how = ctypes.create_string_buffer(_OPEN_HOW.pack(flags, 0, resolve), _OPEN_HOW.size)
    number = _libc.syscall(
        ctypes.c_long(_OPENAT2), start, path, how, ctypes.c_size_t(_OPEN_HOW.size)
    )
    if number < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return Opened(number)


def walk(target: Target, path: bytes, flags: int) -> Opened:
    """Return the object that a path leads to for a thread, opened with O_PATH.

    flags may have O_NOFOLLOW and O_DIRECTORY, which mean what they do in open(2).

    Raises OSError: as open(2).
    """
    root = _directory(target.proc + b"root")
    here = root if path.startswith(b"/") else _directory(target.proc + b"cwd")
    names = deque(_names(path))
    links = 0
    while names:
        name = names.popleft()
        if name == b"..":
            here = open_at(here.number, b"." if _are_same(here, root) else name, _STEP)
            continue
        step = open_at(here.number, name, _STEP)
        if not stat.S_ISLNK(os.fstat(step.number).st_mode) or (not names and flags & os.O_NOFOLLOW):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise _error(errno.ELOOP)
        jump = _jump(target, here, name) if is_in_proc(here) else None
        if jump is not None:
            here = jump
            continue
        text = os.readlink(b"", dir_fd=step.number)
        names.extendleft(reversed(_names(text)))
        if text.startswith(b"/"):
            here = root
    if flags & os.O_DIRECTORY and not stat.S_ISDIR(os.fstat(here.number).st_mode):
        raise _error(errno.ENOTDIR)
    return here


def _names(path: bytes) -> list[bytes]:
    """Return the names in a path; a "." at the end stands for a slash there."""
    names = [name for name in path.split(b"/") if name]
    return names + [b"."] if path.endswith(b"/") else names


def _jump(target: Target, directory: Opened, name: bytes) -> Opened | None:
    """Return what a link in /proc leads a thread to; None if the link's text is a path."""
    if name in (b"self", b"thread-self") and os.fstat(directory.number).st_ino == _PROC_ROOT_INO:
        return _itself(target, directory, thread=name == b"thread-self")
    try:
        open_at(directory.number, name, os.O_PATH | os.O_CLOEXEC, NO_MAGICLINKS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return open_at(directory.number, name, os.O_PATH | os.O_CLOEXEC)
    return None


def _itself(target: Target, proc: Opened, *, thread: bool) -> Opened:
    """Return the directory of a process, or of its thread, in a /proc of any pid namespace.

    Raises OSError: ENOENT if the process is in another namespace.
    """
    status = target.status()
    processes, threads = status[b"NStgid"].split(), status[b"NSpid"].split()
    # Its numbers in our namespace, and in those further in.
    for level, (process, number) in enumerate(zip(processes, threads, strict=True)):
        path = b"%b/task/%b" % (process, number) if thread else process
        with contextlib.suppress(OSError):
            found = open_at(proc.number, path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            seen = status_at(b"/proc/self/fd/%d/status" % found.number)
            # Further out another process may have the number.
            if seen[b"NStgid"].split() == processes[level:]:
                return found
    raise _error(errno.ENOENT)


def _directory(path: bytes) -> Opened:
    return Opened(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def _are_same(one: Opened, other: Opened) -> bool:
    """Return whether two directories are the same, in the same mount."""
    if not os.path.samestat(os.fstat(one.number), os.fstat(other.number)):
        return False
    return _mount_id(one) == _mount_id(other)


def _mount_id(opened: Opened) -> bytes:
    with open(b"/proc/self/fdinfo/%d" % opened.number, "rb") as lines:
        return next(line for line in lines if line.startswith(b"mnt_id:"))


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
