# SPDX-License-Identifier: GPL-2.0-or-later
"""The seccomp filter that turns inotify's system calls into notifications.  Linux: seccomp(2).

run.child installs it in the program's process; run.notify reads the notifications.
run.architectures lists the trapped calls.

Invariants
    The filter compares the architecture before the number.
    Reads and writes are trapped only on descriptors of the reserved range (Range).  Others cost a
        program a few comparisons more.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fusenotify.run.architectures import Architecture, own_architecture

FIONREAD = 0x541B

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_FLAG_NEW_LISTENER = 1 << 3
_FLAG_WAIT_KILLABLE_RECV = 1 << 5
_RET_ALLOW = 0x7FFF0000
_RET_USER_NOTIF = 0x7FC00000

# struct seccomp_data: nr, arch, instruction_pointer, args.
_NR, _ARCH, _ARGS = 0, 4, 16
# Classic BPF: BPF_LD|BPF_W|BPF_ABS, BPF_JMP with BPF_JEQ, BPF_JGE and BPF_JA, BPF_RET|BPF_K.
_LOAD, _JEQ, _JGE, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x05, 0x06
_INSTRUCTION = struct.Struct("=HBBI")

# Where the filter continues for calls that are trapped only with some arguments.
_TRAPPED = {"ioctl": "ioctl"} | dict.fromkeys(("read", "readv", "write", "writev"), "descriptor")
# How many descriptors are reserved, if the limit allows it.
_MOST = 256
# select(2) takes descriptors below this.
_FD_SETSIZE = 1024


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that are reserved for inotify descriptors: from first up to end - 1."""

    first: int
    end: int


def reserved_range(limit: int | None = None) -> Range:
    """Return the descriptors to reserve below a limit (None: our soft RLIMIT_NOFILE)."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            limit = _FD_SETSIZE
    end = min(limit, _FD_SETSIZE)
    return Range(end - min(_MOST, end // 2), end)


def program(architectures: Sequence[Architecture], reserved: Range) -> bytes:
    """Return the filter, as an array of struct sock_filter."""
    by_audit: dict[int, dict[int, str]] = {}
    for architecture in architectures:
        by_audit.setdefault(architecture.audit, {}).update(architecture.calls)
    code = _Code()
    code.load(_ARCH)
    for audit in by_audit:
        code.if_equal(audit, f"arch {audit}")
    code.leave(_RET_ALLOW)
    for audit, calls in by_audit.items():
        code.label(f"arch {audit}")
        code.load(_NR)
        for number, name in calls.items():
            code.if_equal(number, _TRAPPED.get(name, "trap"))
        code.leave(_RET_ALLOW)
    code.label("ioctl")
    code.load(_ARGS + 8)
    code.if_equal(FIONREAD, "descriptor")
    code.leave(_RET_ALLOW)
    code.label("descriptor")
    code.load(_ARGS)
    code.if_at_least(reserved.end, "allow")
    code.if_at_least(reserved.first, "trap")
    code.label("allow")
    code.leave(_RET_ALLOW)
    code.label("trap")
    code.leave(_RET_USER_NOTIF)
    return code.assembled()


class _Code:
    """A program in classic BPF, whose jumps lead forward to labels."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, str | None]] = []
        self._labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        self._instructions.append((_LOAD, offset, None))

    def if_equal(self, value: int, label: str) -> None:
        self._instructions.append((_JEQ, value, label))

    def if_at_least(self, value: int, label: str) -> None:
        self._instructions.append((_JGE, value, label))

    def leave(self, verdict: int) -> None:
        self._instructions.append((_RETURN, verdict, None))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._instructions)

    def assembled(self) -> bytes:
        parts = []
        for place, (code, value, label) in enumerate(self._instructions):
            distance = 0 if label is None else self._labels[label] - place - 1
            assert 0 <= distance < 256, "a jump reaches 255 instructions"
            parts.append(_INSTRUCTION.pack(code, distance, 0, value))
        return b"".join(parts)


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(code: bytes) -> int:
    """Filter this thread and its children from now on; return the listener's descriptor.

    code is what program() returned.  The filter cannot be removed.

    Raises OSError: EBUSY if another supervisor listens, EINVAL if the kernel is too old,
    ENOSYS, EPERM and EACCES if seccomp(2) is forbidden or does not exist.
    """
    own = own_architecture()
    if own is None:
        raise OSError(errno.ENOSYS, f"the system calls of {os.uname().machine} are not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = _SockFprog(len(code) // _INSTRUCTION.size, ctypes.addressof(buffer))

    def call(flags: int) -> int:
        listener: int = libc.syscall(
            ctypes.c_long(own.seccomp), _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog)
        )
        return listener if listener >= 0 else -ctypes.get_errno()

    flags = _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE_RECV
    found = call(flags)
    if found == -errno.EACCES:  # without CAP_SYS_ADMIN
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        found = call(flags)
    if found == -errno.EINVAL:  # before Linux 5.19
        found = call(_FLAG_NEW_LISTENER)
    if found < 0:
        raise OSError(-found, os.strerror(-found))
    return found
