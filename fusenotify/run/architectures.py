# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of the system calls that are served, by architecture.  Linux: syscall(2).

run.filter traps these calls; run.calls tells them apart.  This module imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

# The numbers of x32's system calls have this bit.  Their AUDIT_ARCH is that of x86_64.
X32_BIT = 0x40000000


@dataclass(frozen=True, slots=True)
class Architecture:
    """An ABI through which a program may call the kernel.

    audit is its AUDIT_ARCH_*; word is the size of its pointers in bytes; seccomp is the
    number of seccomp(2); calls maps the numbers of the trapped system calls to their names.
    """

    name: str
    audit: int
    word: int
    seccomp: int
    calls: dict[int, str]


X86_64 = Architecture(
    "x86_64",
    0xC000003E,
    8,
    317,
    {
        0: "read",
        1: "write",
        16: "ioctl",
        19: "readv",
        20: "writev",
        253: "inotify_init",
        254: "inotify_add_watch",
        255: "inotify_rm_watch",
        294: "inotify_init1",
    },
)
X32 = Architecture(
    "x32",
    0xC000003E,
    4,
    X32_BIT | 317,
    {
        X32_BIT | 0: "read",
        X32_BIT | 1: "write",
        X32_BIT | 514: "ioctl",
        X32_BIT | 515: "readv",
        X32_BIT | 516: "writev",
        X32_BIT | 253: "inotify_init",
        X32_BIT | 254: "inotify_add_watch",
        X32_BIT | 255: "inotify_rm_watch",
        X32_BIT | 294: "inotify_init1",
    },
)
I386 = Architecture(
    "i386",
    0x40000003,
    4,
    354,
    {
        3: "read",
        4: "write",
        54: "ioctl",
        145: "readv",
        146: "writev",
        291: "inotify_init",
        292: "inotify_add_watch",
        293: "inotify_rm_watch",
        332: "inotify_init1",
    },
)
AARCH64 = Architecture(
    "aarch64",
    0xC00000B7,
    8,
    277,
    {
        29: "ioctl",
        63: "read",
        64: "write",
        65: "readv",
        66: "writev",
        26: "inotify_init1",
        27: "inotify_add_watch",
        28: "inotify_rm_watch",
    },
)
ARM = Architecture(
    "arm",
    0x40000028,
    4,
    383,
    {
        3: "read",
        4: "write",
        54: "ioctl",
        145: "readv",
        146: "writev",
        316: "inotify_init",
        317: "inotify_add_watch",
        318: "inotify_rm_watch",
        360: "inotify_init1",
    },
)

# The ABIs that programs can use, by the machine name that uname(2) returns.
_MACHINES = {
    "x86_64": (X86_64, X32, I386),
    "i386": (I386,),
    "i686": (I386,),
    "aarch64": (AARCH64, ARM),
}


def architectures_here() -> tuple[Architecture, ...]:
    """Return the ABIs of this machine's programs; an empty tuple if the machine is unknown."""
    return _MACHINES.get(os.uname().machine, ())


def own_architecture() -> Architecture | None:
    """Return the ABI that this process uses; None if it is unknown."""
    here = architectures_here()
    word = 8 if sys.maxsize > 1 << 32 else 4
    return next((abi for abi in here if abi.word == word and abi is not X32), None)
