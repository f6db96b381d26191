# SPDX-License-Identifier: GPL-2.0-or-later
"""Resolve a path as another process would: with its root, its directory and its rights.

run.calls uses it.  The result is a descriptor (O_PATH), so that later renames do not matter.

A path that is in the kernel's caches is resolved at once, which cannot block.  Other paths
are resolved in a thread, because a filesystem may be slow, or may be served by a program
that waits for us.

A path may lead through a link that means another object for each process, such as
/proc/self/cwd.  The kernel resolves paths without such links for us; run.walk does the others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from fusenotify.client.locate import Opened
from fusenotify.run.filesystems import is_in_proc, is_known_not_in_proc
from fusenotify.run.target import Target, contents
from fusenotify.run.threads import in_thread
from fusenotify.run.walk import CACHED, IN_ROOT, NO_MAGICLINKS, open_at, walk

# In /proc/PID/status: the user and the group for filesystems, the last of four, and the groups.
_CREDENTIALS = re.compile(rb"\nUid:.*\t(\d+)\nGid:.*\t(\d+)\n(?:.*\n)*?Groups:(.*)\n")

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
        found = _CREDENTIALS.search(contents(target.proc + b"status"))
        assert found is not None
        return cls(int(found[1]), int(found[2]), tuple(sorted(map(int, found[3].split()))))

    @classmethod
    @cache
    def ours(cls) -> Credentials:
        """Return the credentials of this process, which do not change."""
        return cls(os.geteuid(), os.getegid(), tuple(sorted(os.getgroups())))


async def opened(target: Target, path: bytes, *, follow: bool, directory: bool) -> Opened:
    """Return the object that a path leads to for a thread, which must be allowed to read it.

    follow: a symbolic link at the end is followed.  directory: anything else is refused.

    Raises OSError: as inotify_add_watch(2) for the path.
    """
    if not path:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    flags = os.O_PATH | os.O_CLOEXEC
    flags |= (0 if follow else os.O_NOFOLLOW) | (os.O_DIRECTORY if directory else 0)
    strangers = _strangers(target)
    if strangers is not None:
        return await in_thread(_as_them, strangers, lambda: _open(target, path, flags))
    try:
        return _open(target, path, flags, CACHED)
    except BlockingIOError:
        return await in_thread(_open, target, path, flags)


def _strangers(target: Target) -> Credentials | None:
    """Return the credentials of a thread if they differ from ours, otherwise None."""
    theirs = Credentials.of(target)
    return None if theirs == Credentials.ours() else theirs


def _open(target: Target, path: bytes, flags: int, resolve: int = 0) -> Opened:
    """Raises OSError: EAGAIN if CACHED is in resolve and not enough."""
    found = _open_plain(target, path, flags, resolve | NO_MAGICLINKS)
    if found is not None and is_known_not_in_proc(found):
        return found
    if resolve & CACHED:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if found is not None and not is_in_proc(found):
        return found
    return walk(target, path, flags)


def _open_plain(target: Target, path: bytes, flags: int, resolve: int) -> Opened | None:
    """Open a path in one call; return None if that is not possible."""
    absolute = path.startswith(b"/")
    ours = _has_our_root(target)
    if not ours and not absolute:
        return None  # the path may have ".." and links that lead to the thread's root
    try:
        if ours and absolute:
            return open_at(-1, path, flags, resolve)
        where = target.proc + (b"root" if absolute else b"cwd")
        start = Opened(os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return open_at(start.number, path, flags, resolve | (IN_ROOT if absolute else 0))
    except OSError as error:
        if error.errno == errno.EAGAIN and resolve & CACHED:
            raise
        return None  # perhaps it exists, but not for us: the path leads through /proc/self


def _has_our_root(target: Target) -> bool:
    """Return whether absolute paths mean the same for the thread as for us."""
    return _root_of(target.proc) == _our_root()


def _root_of(proc: bytes) -> tuple[int, int, bytes]:
    """Return what identifies the root that a directory of /proc shows, and its namespace."""
    status = os.stat(proc + b"root")
    return status.st_dev, status.st_ino, os.readlink(proc + b"ns/mnt")


@cache
def _our_root() -> tuple[int, int, bytes]:
    """Return what identifies the root of this process, which does not change."""
    return _root_of(b"/proc/self/")


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
