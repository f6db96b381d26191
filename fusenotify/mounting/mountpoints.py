# SPDX-License-Identifier: GPL-2.0-or-later
"""Mount points from outside: is there a mount of ours, does it live, take it away.

mounting.checks, mounting.mounted, cli.unmount and cli.status share it.  A mount whose
daemon died stays in the kernel's table, and every use of it fails with ENOTCONN.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import queue
import shutil
import subprocess
import threading

from fusenotify import mountinfo
from fusenotify.mounting.failure import Failure
from fusenotify.socket_file import SocketFile

# How long a daemon may take to answer before it is taken for stopped.
ANSWER_SECONDS = 3.0

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


class State(enum.Enum):
    """What is mounted on a directory."""

    NOT_OURS = enum.auto()
    LIVE = enum.auto()
    SILENT = enum.auto()  # a daemon that does not answer, as one that was stopped
    DEAD = enum.auto()


def resolve(path: str) -> str:
    """Return the absolute path without symbolic links, as os.path.realpath() does.

    But it asks nothing of what is mounted on path itself, whose daemon may not answer.
    """
    directory, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    resolved = os.path.join(os.path.realpath(directory), name)
    try:
        os.readlink(resolved)
    except OSError:
        return resolved  # no link
    return os.path.realpath(path)


def look(path: str) -> State:
    """Return whether a mount of ours covers a directory, and whether it answers.

    path is absolute and resolved.
    """
    wanted = os.fsencode(path)
    # The last one mounted on a directory is the one that shows.
    topmost = [mount for mount in mountinfo.mounts() if mount.mountpoint == wanted][-1:]
    if not topmost or topmost[0].fstype != mountinfo.FSTYPE:
        return State.NOT_OURS
    return _ask(path)


def _ask(path: str) -> State:
    """Ask a mount something that nothing but its daemon can answer."""
    answers: queue.SimpleQueue[State] = queue.SimpleQueue()

    def ask() -> None:
        try:
            os.statvfs(path)  # stat() would be answered from the kernel's cache
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                answers.put(State.DEAD)
                return
            # A user's mount keeps everybody else out, even root: it lives.
        answers.put(State.LIVE)

    # In a thread, because a syscall on a mount has no time limit.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        return State.SILENT


def fusermount() -> str | None:
    """Return the program that mounts for ordinary users, or None."""
    return shutil.which("fusermount3")


def take_away(path: str, *, lazy: bool) -> None:
    """Unmount a directory.

    lazy hides the mount now and ends it when nobody uses it any more.

    Raises Failure.
    """
    if os.geteuid() == 0:
        code = _umount2(path, lazy)
        if not code:
            return
        reason = os.strerror(code)
        busy = code == errno.EBUSY
    else:
        program = fusermount()
        if program is None:
            raise Failure("fusermount3 is missing: install the Debian package fuse3")
        done = subprocess.run(
            [program, "-u", *(["-z"] if lazy else []), "--", path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        if not done.returncode:
            return
        reason = done.stderr.strip().removeprefix("fusermount3: ")
        busy = os.strerror(errno.EBUSY) in reason
    if busy:
        raise Failure(
            f"{path}: busy, programs have files open or work in it (fuser -vm shows them); "
            "end them, or use --lazy"
        )
    raise Failure(f"{path}: cannot be unmounted: {reason}")


def remove_dead_socket(path: str) -> None:
    """Unlink a socket on which nobody listens any more; let any other be, or what one may not."""
    with contextlib.suppress(OSError), SocketFile(path, make=False) as file:
        file.remove_dead()


def _umount2(path: str, lazy: bool) -> int:
    """Call umount2(2) and return its errno, 0 where it succeeded."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    return ctypes.get_errno() if libc.umount2(os.fsencode(path), flags) else 0
