# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter's verdicts, by an interpreter of its instructions: also for machines we are not."""

from __future__ import annotations

import struct

import pytest

from fusenotify.run.architectures import (
    AARCH64,
    ARM,
    I386,
    X32,
    X86_64,
    Architecture,
)
from fusenotify.run.filter import FIONREAD, Range, program, reserved_range

ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
RANGE = Range(768, 1024)
ALL = (X86_64, X32, I386, AARCH64, ARM)


def verdict(code: bytes, audit: int, number: int, *arguments: int) -> int:
    """Return what a classic BPF program says of a system call.  Linux: bpf(4)."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack(
        "=iIQ6Q", struct.unpack("=i", struct.pack("=I", number))[0], audit, 0, *padded
    )
    instructions: list[tuple[int, int, int, int]] = list(struct.iter_unpack("=HBBI", code))
    place, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = instructions[place]
        place += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x15:
                place += if_true if accumulator == value else if_false
            case 0x35:
                place += if_true if accumulator >= value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(hex(operation))


@pytest.mark.parametrize("abi", ALL, ids=lambda abi: abi.name)
def test_inotifys_calls_are_trapped_and_others_are_not(abi: Architecture) -> None:
    code = program(ALL, RANGE)
    for number, name in abi.calls.items():
        if name.startswith("inotify"):
            assert verdict(code, abi.audit, number, 3) == NOTIFY
    neighbours = {number + 1 for number in abi.calls} - set(abi.calls)
    known = {number for other in ALL if other.audit == abi.audit for number in other.calls}
    for number in neighbours - known:
        assert verdict(code, abi.audit, number, 800, FIONREAD) == ALLOW


@pytest.mark.parametrize("abi", ALL, ids=lambda abi: abi.name)
def test_reads_are_trapped_on_reserved_descriptors_only(abi: Architecture) -> None:
    code = program(ALL, RANGE)
    numbers = {name: number for number, name in abi.calls.items()}
    for name in ("read", "readv", "write", "writev"):
        answers = [
            verdict(code, abi.audit, numbers[name], fd)
            for fd in (0, 767, 768, 1023, 1024, 2**32 - 1)
        ]
        assert answers == [ALLOW, ALLOW, NOTIFY, NOTIFY, ALLOW, ALLOW]
    ioctl = numbers["ioctl"]
    assert verdict(code, abi.audit, ioctl, 800, FIONREAD) == NOTIFY
    assert verdict(code, abi.audit, ioctl, 800, FIONREAD + 1) == ALLOW
    assert verdict(code, abi.audit, ioctl, 3, FIONREAD) == ALLOW


def test_a_number_means_nothing_without_its_architecture() -> None:
    code = program((X86_64,), RANGE)
    assert verdict(code, I386.audit, 254, 3) == ALLOW
    assert verdict(program(ALL, RANGE), AARCH64.audit, 254, 3) == ALLOW


@pytest.mark.parametrize(
    ("limit", "first", "end"), [(1024, 768, 1024), (1 << 20, 768, 1024), (300, 150, 300), (7, 4, 7)]
)
def test_descriptors_are_reserved_below_the_limit(limit: int, first: int, end: int) -> None:
    assert reserved_range(limit) == Range(first, end)
