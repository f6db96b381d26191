# SPDX-License-Identifier: GPL-2.0-or-later
"""Mount points from outside: find mounts of ours, find out whether they live, unmount them.

mounting.checks, mounting.mounted, cli.unmount and cli.status use it.  A mount whose
daemon has died stays in the kernel's table, and every use of it fails with ENOTCONN.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import queue
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from fusenotify import mountinfo
from fusenotify.mounting.failure import Failure, describe
from fusenotify.socket_file import SocketFile

# fs.attribute_requests returns its value.
SOCKET_XATTR = "user.fusenotify.socket"
# How many seconds a daemon may take to answer before it counts as stopped.
ANSWER_SECONDS = 3.0

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


class State(enum.Enum):
    """The state of a mount's daemon."""

    LIVE = enum.auto()
    SILENT = enum.auto()  # it does not answer, for example because it was stopped
    DEAD = enum.auto()


# The kernel's errors for a mount whose daemon is gone.
_OF_THE_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


def resolve(path: str) -> str:
    """Return the absolute path without symbolic links, as os.path.realpath() does.

    Unlike that, it asks nothing of the mount on path itself, whose daemon may not answer.
    """
    directory, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    resolved = os.path.join(os.path.realpath(directory), name)
    try:
        os.readlink(resolved)
    except OSError:
        return resolved  # not a link
    return os.path.realpath(path)


def resolve_source(path: str) -> str:
    """Return resolve(path), or path itself, made absolute, if that leads elsewhere.

    A link in /proc can lead to another mount namespace, in which its text has another meaning.
    """
    resolved, absolute = resolve(path), os.path.abspath(path)
    if absolute.startswith("/proc/") and _identity(absolute) not in (None, _identity(resolved)):
        return os.path.join(absolute, ".") if os.path.islink(absolute) else absolute
    return resolved


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def find(path: str) -> mountinfo.Mount | None:
    """Return the mount on a directory if the uppermost one there is ours, otherwise None.

    path is absolute and resolved.
    """
    found = mountinfo.mount_of(os.fsencode(path))
    if found is None or found.fstype != mountinfo.FSTYPE or os.fsdecode(found.mountpoint) != path:
        return None
    return found


class Asked(NamedTuple):
    """The state of a mount, and the id of the mount that was asked; None if it was not reached."""

    state: State
    which: mountinfo.MountId | None = None


def ask(among: Sequence[mountinfo.Mount]) -> list[Asked]:
    """Return the states of mounts, which are all asked at once; only their daemons can answer.

    Users who may not use a mount cannot find out whether it lives: a dead one then counts as live.
    Root can, by asking in the name of the mount's user.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    answers = [_ask(mount) for mount in among]
    asked = []
    for answer in answers:
        try:
            asked.append(answer.get(timeout=max(0.0, deadline - time.monotonic())))
        except queue.Empty:
            asked.append(Asked(State.SILENT))
    return asked


def state_of(mount: mountinfo.Mount) -> State:
    """Return the state of one mount; see ask()."""
    return ask([mount])[0].state


def _ask(mount: mountinfo.Mount) -> queue.SimpleQueue[Asked]:
    answer: queue.SimpleQueue[Asked] = queue.SimpleQueue()
    # In a thread, because a system call on a mount has no time limit.
    threading.Thread(target=lambda: answer.put(_asked(mount)), daemon=True).start()
    return answer


def _asked(mount: mountinfo.Mount) -> Asked:
    closed_to_root = mount.user and "allow_other" not in mount.options
    error_of = _error_for_its_user if os.geteuid() == 0 and closed_to_root else _error_of_asking
    with contextlib.suppress(Failure), opened(mount) as root:
        which = mountinfo.mount_id(root)
        code = error_of(root, mount)
        if code is None:
            return Asked(State.SILENT, which)
        return Asked(State.DEAD if code in _OF_THE_DEAD else State.LIVE, which)
    return Asked(State.LIVE)  # unmounted or covered by now, which its users will notice


def _error_of_asking(root: int, _: mountinfo.Mount) -> int:
    try:
        os.fstatvfs(root)  # fstat() would be answered from the kernel's cache
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _error_for_its_user(root: int, mount: mountinfo.Mount) -> int | None:
    """Ask in a process of the mount's user, since the kernel refuses others, even root.

    Returns None if no answer comes.
    """
    child = os.fork()
    if not child:
        _ask_and_end(mount, root)
    pidfd = os.pidfd_open(child)
    try:
        if not select.select([pidfd], [], [], ANSWER_SECONDS)[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return None
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _ask_and_end(mount: mountinfo.Mount, root: int) -> NoReturn:
    """Exit with the errno.  A thread has forked this process, so it may only make system calls."""
    code = errno.EPERM
    try:
        os.setgroups([])
        os.setresgid(mount.group, mount.group, mount.group)
        os.setresuid(mount.user, mount.user, mount.user)
        code = _error_of_asking(root, mount)
    finally:
        os._exit(code)


@contextlib.contextmanager
def opened(mount: mountinfo.Mount) -> Iterator[int]:
    """Return a context manager that yields an O_PATH descriptor of this mount's root.

    The daemon is not asked.  During the with block the mount is busy.

    Raises Failure if the path of the mount does not lead to this mount.
    """
    path = os.fsdecode(mount.mountpoint)
    try:
        root = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError as error:
        raise Failure(describe(error)) from error
    try:
        if mountinfo.mount_id(root).number != mount.id:
            raise Failure(f"{path}: the mount is gone, or another one covers it")
        yield root
    finally:
        os.close(root)


def id_of(mount: mountinfo.Mount) -> mountinfo.MountId:
    """Return the id of the mount of an entry in mountinfo.  Raises Failure as opened() does."""
    with opened(mount) as root:
        return mountinfo.mount_id(root)


def socket_of(mount: mountinfo.Mount) -> str:
    """Ask a mount's daemon where its socket is.

    Raises OSError, Failure.
    """
    with opened(mount) as root:
        return os.fsdecode(os.getxattr(f"/proc/self/fd/{root}", SOCKET_XATTR))


def fusermount() -> str | None:
    """Return the program that mounts for ordinary users, or None."""
    return shutil.which("fusermount3")


def take_away(which: mountinfo.MountId, *, lazy: bool) -> None:
    """Unmount a mount, wherever it is now; do nothing if it is gone.

    With lazy, the mount is hidden now, and ends when nobody uses it any more.  umount2(2)
    unmounts the uppermost mount: one that somebody makes there between the check and the
    call cannot be distinguished.  The same holds for fusermount3, which other users need.

    Raises Failure, also if another mount covers this one; that is left alone.
    """
    while (mount := mountinfo.mount_with_id(which.number)) is not None:
        try:
            _take_away(mount, which, lazy)
            return
        except Failure:
            # Numbers are given out again, so it may be another's mount that went in this moment.
            if mountinfo.mount_with_id(which.number) == mount:
                raise


def _take_away(mount: mountinfo.Mount, which: mountinfo.MountId, lazy: bool) -> None:
    """Unmount a mount that mountinfo shows, if it is that one.

    Raises Failure, also if it is no longer there.
    """
    if mount.fstype != mountinfo.FSTYPE:
        return
    path = os.fsdecode(mount.mountpoint)
    with opened(mount) as root:
        if not mountinfo.mount_id(root).may_be(which):
            return  # another mount, which has the number of ours
    if os.geteuid() == 0:
        code = _unmount(mount, lazy)
        reason = os.strerror(code) if code else ""
        busy = code == errno.EBUSY
    else:
        reason = _unmount_as_user(path, lazy)
        busy = os.strerror(errno.EBUSY) in reason
        if reason and not busy and mount.user != os.geteuid():
            reason = f"user {mount.user} mounted it; only that user and root may unmount it"
    if busy:
        raise Failure(
            f"{path}: busy, programs have files open or work in it (fuser -vm shows them); "
            "end them, or use --lazy"
        )
    if reason and mountinfo.mount_with_id(which.number) == mount:
        raise Failure(f"{path}: cannot be unmounted: {reason}")


def remove_dead_socket(path: str) -> None:
    """Unlink a socket if nobody listens on it any more and this user may."""
    with contextlib.suppress(OSError), SocketFile(path, make=False) as file:
        file.remove_dead()


def _unmount(mount: mountinfo.Mount, lazy: bool) -> int:
    """Call umount2(2) and return its errno, 0 if it succeeded."""
    with opened(mount) as root:
        if lazy:
            # By the root itself, so that renamed directories and new links do not matter.
            return _umount2(f"/proc/self/fd/{root}", _MNT_DETACH)
    # Not by the root, since an open root would make the mount busy.
    directory, name = os.path.split(os.fsdecode(mount.mountpoint))
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        return _umount2(f"/proc/self/fd/{parent}/{name}", _UMOUNT_NOFOLLOW)
    finally:
        os.close(parent)


def _umount2(path: str, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.umount2(os.fsencode(path), flags) else 0


def _unmount_as_user(path: str, lazy: bool) -> str:
    """Call fusermount3, and return its message if it failed, otherwise ""."""
    program = fusermount()
    if program is None:
        raise Failure("fusermount3 is missing: install the package fuse3")
    done = subprocess.run(
        [program, "-u", *(["-z"] if lazy else []), "--", path],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    said = done.stderr.strip().removeprefix("fusermount3: ") or f"status {done.returncode}"
    return said if done.returncode else ""
