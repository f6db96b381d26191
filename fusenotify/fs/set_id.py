# SPDX-License-Identifier: GPL-2.0-or-later
"""When a file's set-id bits go: as it is written to, truncated, or given to somebody else.

fs.negotiation has asked the kernel to leave that to us; fs.operations and
fs.file_requests ask here when such a request was done.

Invariant
    A daemon that is not root leaves bits to SOURCE's kernel where it may not
        take them itself; what is reported lost is lost there.

Linux: setattr_should_drop_suidgid(), setattr_should_drop_sgid().
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from pyfuse3 import RequestContext

from fusenotify.fs.syscalls import path_of

SET_ID = stat.S_ISUID | stat.S_ISGID
_CAP_FSETID = 1 << 4


def keeps_set_id(ctx: RequestContext) -> bool:
    """Return whether bits stay where ctx changes what is in a file: CAP_FSETID.

    Only root is asked for it: the root of a user namespace has it there, which
    /proc shows as if it had it here.
    """
    effective = _status(ctx.pid).get(b"CapEff")
    return not ctx.uid and (effective is None or bool(int(effective, 16) & _CAP_FSETID))


def strip_set_id(fd: int, before: os.stat_result, ctx: RequestContext) -> bool:
    """Take from an object, which was as before says, what it does not keep of its bits.

    Returns whether bits are lost.  Raises OSError.
    """
    lost = before.st_mode & stat.S_ISUID
    if before.st_mode & stat.S_ISGID and not _keeps_set_gid(before, ctx):
        lost |= stat.S_ISGID
    if not lost or stat.S_ISDIR(before.st_mode):
        return False
    mode = os.fstat(fd).st_mode
    if mode & lost:
        with suppress(PermissionError):
            os.chmod(path_of(fd), stat.S_IMODE(mode & ~lost))
            return True
    return not mode & lost


def _keeps_set_gid(before: os.stat_result, ctx: RequestContext) -> bool:
    """Return whether the bit says that locks are mandatory, as it once did, to one of the group."""
    if before.st_mode & stat.S_IXGRP:
        return False
    groups = _status(ctx.pid).get(b"Groups", b"").split()
    return before.st_gid == ctx.gid or b"%d" % before.st_gid in groups or keeps_set_id(ctx)


def _status(pid: int) -> dict[bytes, bytes]:
    """Return /proc/PID/status; nothing where a caller is gone, or in another pid namespace (0)."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as lines:
        return dict(line.split(b":", 1) for line in lines)
    return {}
