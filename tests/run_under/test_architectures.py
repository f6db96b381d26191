# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of system calls are those of the kernel's headers, where these are installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fusenotify.run.architectures import AARCH64, ARM, I386, X32, X32_BIT, X86_64, Architecture

ALL = (X86_64, X32, I386, AARCH64, ARM)
# Of linux-libc-dev, and for arm of linux-libc-dev-armhf-cross.
HEADERS = {
    "x86_64": ["x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"],
    "x32": ["x86_64-linux-gnu/asm/unistd_x32.h", "asm/unistd_x32.h"],
    "i386": ["x86_64-linux-gnu/asm/unistd_32.h", "asm/unistd_32.h"],
    "aarch64": ["asm-generic/unistd.h"],
    "arm": [
        "../arm-linux-gnueabihf/include/asm/unistd-eabi.h",
        "../arm-linux-gnueabihf/include/asm/unistd-common.h",
    ],
}
INCLUDE = Path("/usr/include")


def header(names: list[str]) -> str:
    found = [INCLUDE / name for name in names if (INCLUDE / name).exists()]
    if not found:
        pytest.skip(f"the kernel's headers are not installed: {names[0]}")
    return "\n".join(path.read_text() for path in found)


@pytest.mark.parametrize("abi", ALL, ids=lambda abi: abi.name)
def test_the_numbers_are_the_kernels(abi: Architecture) -> None:
    numbers = {
        name: int(number) + (X32_BIT if base.startswith("(__X32") else 0)
        for name, base, number in re.findall(
            r"^#define __NR_(\w+)\s+(\(\w+\s*\+\s*)?(\d+)\)?$", header(HEADERS[abi.name]), re.M
        )
    }
    assert {number: numbers[name] for number, name in abi.calls.items()} == {
        number: number for number in abi.calls
    }
    assert numbers["seccomp"] == abi.seccomp
    traps_all = set(numbers) & {"inotify_init", "inotify_init1", "inotify_add_watch"}
    assert traps_all <= set(abi.calls.values())


@pytest.mark.parametrize("abi", ALL, ids=lambda abi: abi.name)
def test_the_audit_architectures_are_the_kernels(abi: Architecture) -> None:
    text = header(["linux/audit.h"])
    machines = header(["linux/elf-em.h"])
    name = "X86_64" if abi is X32 else abi.name.upper()
    (words,) = re.findall(rf"#define AUDIT_ARCH_{name}\s+\((.*)\)", text)
    value = 0
    for word in words.split("|"):
        match word.strip():
            case "__AUDIT_ARCH_64BIT":
                value |= 0x80000000
            case "__AUDIT_ARCH_LE":
                value |= 0x40000000
            case machine:
                (number,) = re.findall(rf"#define {machine}\s+(\d+)", machines)
                value |= int(number)
    assert value == abi.audit
