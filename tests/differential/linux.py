# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle: the live kernel's inotify, through libc."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_LIMITS = "/proc/sys/fs/inotify"


@contextlib.contextmanager
def machine_limits(**limits: int) -> Iterator[None]:
    """Change limits of the machine's inotify while the block runs, which only root can.

    Who changes them waits for who did before, so that all are put back.  With
    none given they are kept as they are: nobody changes them meanwhile.
    """
    with contextlib.ExitStack() as held:
        lock = held.enter_context(open(f"{_LIMITS}/max_user_watches", "rb"))
        fcntl.flock(lock, fcntl.LOCK_EX if limits else fcntl.LOCK_SH)
        for name, value in limits.items():
            held.enter_context(_changed(f"{_LIMITS}/{name}", value))
        yield


@contextlib.contextmanager
def _changed(path: str, value: int) -> Iterator[None]:
    """Write another value to a file while the block runs."""
    with open(path, "r+b", buffering=0) as file:
        original = os.pread(file.fileno(), 32, 0)
        try:
            os.pwrite(file.fileno(), b"%d" % value, 0)
            yield
        finally:
            os.pwrite(file.fileno(), original, 0)


@contextlib.contextmanager
def _queue_limit(value: int) -> Iterator[None]:
    """Change the length of the queues that are made in the block, no longer than that.

    No signal ends the program meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        path = f"{_LIMITS}/max_queued_events"
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with _changed(path, value):
                yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LinuxDevice:
    """An inotify descriptor of the kernel, never waiting."""

    def __init__(self, queue: int | None = None) -> None:
        """Make one that queues this many events, which only root can (None: the default)."""
        with contextlib.nullcontext() if queue is None else _queue_limit(queue):
            self.fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add_watch(self, path: Path | bytes, mask: int) -> int:
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask)))

    def rm_watch(self, wd: int) -> None:
        _checked(_libc.inotify_rm_watch(self.fd, wd))

    def read(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def fionread(self) -> int:
        answer = fcntl.ioctl(self.fd, termios.FIONREAD, struct.pack("i", 0))
        count: int = struct.unpack("i", answer)[0]
        return count

    def poll(self) -> bool:
        return bool(select.select([self.fd], [], [], 0)[0])

    def fence(self) -> None:
        """Nothing to wait for: the kernel queues before a call returns."""

    def close(self) -> None:
        os.close(self.fd)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
