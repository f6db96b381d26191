# SPDX-License-Identifier: GPL-2.0-or-later
"""Which filesystem an open object is in, and whether that is a /proc.  Linux: statx(2).

run.paths, run.walk and run.mounts ask.  fstat(2) and statfs(2) may wait for the filesystem, which
may be slow or hang; statx(2) need not.
"""

from __future__ import annotations

import ctypes
import os
import struct

from fusenotify.client.locate import Opened

_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
# In struct statx: stx_dev_major and stx_dev_minor.
_STATX_SIZE = 256
_DEVICE = struct.Struct("=136xII")
_PROC_SUPER_MAGIC = 0x9FA0
_STATFS_SIZE = 256  # more than struct statfs has; it begins with f_type, a long

_libc = ctypes.CDLL(None, use_errno=True)
# By device number.  A number may change its filesystem; then a path is walked without need, or
# "self" in it is ours: run.walk says which paths depend on that.
_known: dict[int, bool] = {}


def device_of(opened: Opened) -> int:
    """Return the device number (st_dev) of an open object without asking its filesystem.

    Raises OSError.
    """
    answer = ctypes.create_string_buffer(_STATX_SIZE)
    flags = _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    if _libc.statx(opened.number, b"", flags, 0, answer):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return os.makedev(*_DEVICE.unpack_from(answer))


def is_known_not_in_proc(opened: Opened) -> bool:
    """Return whether an object is in a filesystem that is_in_proc() found to be no /proc."""
    return _known.get(device_of(opened)) is False


def is_in_proc(opened: Opened) -> bool:
    """Return whether an object is in a filesystem of the type proc.  This may wait for it."""
    answer = ctypes.create_string_buffer(_STATFS_SIZE)
    failed = _libc.fstatfs(opened.number, answer)
    found = not failed and ctypes.c_long.from_buffer(answer).value == _PROC_SUPER_MAGIC
    _known[device_of(opened)] = found
    return found
