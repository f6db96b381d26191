# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle: the live kernel's inotify, through libc."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import termios
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


class LinuxDevice:
    """An inotify descriptor of the kernel, never waiting."""

    def __init__(self) -> None:
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
