# SPDX-License-Identifier: GPL-2.0-or-later
"""What a program does with a device: masks, flags, re-adding, reading, errors."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fusenotify import bits
from fusenotify.bits import (
    IN_ACCESS,
    IN_ALL_EVENTS,
    IN_ATTRIB,
    IN_CLOSE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_MODIFY,
    IN_MOVE,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    IN_ONESHOT,
    IN_ONLYDIR,
    IN_OPEN,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
)
from tests.differential.scenario import AnyDevice, events, outcome, readable, register, scenario

# Masks and flags.


def _asked_for(mask: int) -> Callable[[Path, AnyDevice], Any]:
    def run(root: Path, device: AnyDevice) -> None:
        (root / "f").write_bytes(b"x")
        device.add_watch(root, mask)
        (root / "f").read_bytes()
        (root / "f").write_bytes(b"y")
        (root / "f").chmod(0o600)
        (root / "f").rename(root / "g")
        (root / "g").unlink()
        (root / "s").mkdir()
        os.listdir(root / "s")
        (root / "s").rmdir()

    return run


for _name in bits.names(IN_ALL_EVENTS):
    register(f"only {_name} asked for", _asked_for(bits.SINGLE_BITS[_name]))
register("close asked for", _asked_for(IN_CLOSE))
register("move asked for", _asked_for(IN_MOVE))

_FLAGS = (IN_ONLYDIR, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_MASK_ADD, IN_MASK_CREATE, IN_ONESHOT)


def _flags(flags: int) -> Callable[[Path, AnyDevice], Any]:
    """Add with these flags, twice, on each kind of object, then let all happen."""

    def run(root: Path, device: AnyDevice) -> list[Any]:
        (root / "f").write_bytes(b"x")
        (root / "s").mkdir()
        (root / "to_f").symlink_to("f")
        (root / "to_s").symlink_to("s")
        answers = [
            outcome(partial(device.add_watch, root / name, mask | flags))
            for name in ("f", "s", "to_f", "to_s", "missing")
            for mask in (IN_MODIFY | IN_CREATE | IN_OPEN, IN_ATTRIB | IN_DELETE_SELF | IN_DELETE)
        ]
        fd = os.open(root / "f", os.O_WRONLY)
        (root / "f").unlink()
        os.write(fd, b"x")
        os.close(fd)
        (root / "s" / "x").write_bytes(b"x")
        (root / "s" / "x").unlink()
        (root / "s").rmdir()
        (root / "to_f").unlink()
        return answers

    return run


for _first in range(len(_FLAGS)):
    for _second in range(_first, len(_FLAGS)):
        _both = _FLAGS[_first] | _FLAGS[_second]
        register(f"flags {' and '.join(bits.names(_both))}", _flags(_both))


@scenario
def masks_that_are_refused_or_not(root: Path, device: AnyDevice) -> list[Any]:
    odd = [
        0,
        0x1000,
        0x1000 | IN_CREATE,
        0x08000000 | IN_CREATE,
        0x00800000,
        IN_IGNORED,
        IN_UNMOUNT,
        IN_Q_OVERFLOW,
        IN_ISDIR,
        IN_MASK_ADD,
        IN_MASK_CREATE,
        IN_ONESHOT,
        IN_MASK_ADD | IN_MASK_CREATE | IN_CREATE,
        0xFFFFFFFF,
    ]
    return [outcome(partial(device.add_watch, root, mask)) for mask in odd]


@scenario
def the_mask_is_refused_before_the_path(root: Path, device: AnyDevice) -> list[Any]:
    return [
        outcome(lambda: device.add_watch(root / "missing", 0)),
        outcome(lambda: device.add_watch(root / "missing", 0x1000)),
    ]


@scenario
def paths_that_are_refused(root: Path, device: AnyDevice) -> list[Any]:
    (root / "f").write_bytes(b"x")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    link = "f"
    for number in range(42):
        (root / f"l{number}").symlink_to(link)
        link = f"l{number}"
    base = os.fsencode(root)
    return [
        outcome(partial(device.add_watch, base + path, IN_OPEN))
        for path in (
            b"/missing",
            b"/missing/x",
            b"/f/x",
            b"/f/",
            b"/f/.",
            b"/loop",
            b"/loop/x",
            b"/dangling",
            b"/l39",
            b"/l40",
            b"/" + b"n" * 256,
            b"/" + b"n/" * 2100,
            b"/./f",
            b"//f",
        )
    ]


@scenario
def refused_paths_that_are_not_text(root: Path, device: AnyDevice) -> list[Any]:
    base = os.fsencode(root)
    return [
        outcome(partial(device.add_watch, base + path, IN_OPEN))
        for path in (b"/\xff", b"/\xff/x", b"/" + b"\xff" * 256)
    ] + [device.add_watch(root, IN_OPEN)]


@scenario
def a_symlink_itself_can_be_watched(root: Path, device: AnyDevice) -> None:
    (root / "l").symlink_to("nowhere")
    device.add_watch(root / "l", IN_ALL_EVENTS | IN_DONT_FOLLOW)
    os.chown(root / "l", 1, 1, follow_symlinks=False)
    (root / "l").rename(root / "m")
    (root / "m").unlink()


# Re-adding and removing.


@scenario
def re_adding_replaces_the_mask(root: Path, device: AnyDevice) -> list[int]:
    wds = [device.add_watch(root, IN_CREATE), device.add_watch(root, IN_DELETE)]
    (root / "f").touch()
    (root / "f").unlink()
    return wds


@scenario
def re_adding_with_mask_add_keeps_it(root: Path, device: AnyDevice) -> None:
    device.add_watch(root, IN_CREATE)
    device.add_watch(root, IN_DELETE | IN_MASK_ADD)
    (root / "f").touch()
    (root / "f").unlink()


@scenario
def re_adding_clears_one_shot(root: Path, device: AnyDevice) -> None:
    device.add_watch(root, IN_CREATE | IN_ONESHOT)
    device.add_watch(root, IN_CREATE)
    (root / "f").touch()
    (root / "g").touch()


@scenario
def re_adding_clears_excl_unlink(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    device.add_watch(root, IN_ALL_EVENTS | IN_EXCL_UNLINK)
    device.add_watch(root, IN_ALL_EVENTS)
    fd = os.open(root / "f", os.O_WRONLY)
    (root / "f").unlink()
    os.write(fd, b"x")
    os.close(fd)


@scenario
def two_names_of_one_inode_are_one_watch(root: Path, device: AnyDevice) -> list[int]:
    (root / "f").touch()
    os.link(root / "f", root / "g")
    (root / "l").symlink_to("g")
    return [device.add_watch(root / name, IN_OPEN) for name in ("f", "g", "l")]


@scenario
def removing_a_watch(root: Path, device: AnyDevice) -> list[Any]:
    wd = device.add_watch(root, IN_CREATE)
    return [outcome(partial(device.rm_watch, wd)) for wd in (wd, wd, 0, -1, 77)]


@scenario
def watch_descriptors_are_not_used_again(root: Path, device: AnyDevice) -> list[int]:
    wds = []
    for _ in range(3):
        wds.append(device.add_watch(root, IN_CREATE))
        device.rm_watch(wds[-1])
    return wds


@scenario
def a_failed_path_uses_no_descriptor_up(root: Path, device: AnyDevice) -> list[Any]:
    return [
        outcome(lambda: device.add_watch(root / "missing", IN_CREATE)),
        device.add_watch(root, IN_CREATE),
    ]


@scenario
def what_was_queued_survives_the_removal(root: Path, device: AnyDevice) -> None:
    wd = device.add_watch(root, IN_CREATE)
    (root / "f").touch()
    device.rm_watch(wd)
    (root / "g").touch()


# One-shots.


@scenario
def one_shot_of_a_directory(root: Path, device: AnyDevice) -> None:
    device.add_watch(root, IN_CREATE | IN_DELETE | IN_ONESHOT)
    (root / "f").touch()
    (root / "f").unlink()


@scenario
def one_shot_and_a_rename_inside(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    device.add_watch(root, IN_MOVE | IN_ONESHOT)
    (root / "f").rename(root / "g")


@scenario
def one_shot_of_a_file_that_is_deleted(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    device.add_watch(root / "f", IN_DELETE_SELF | IN_ONESHOT)
    (root / "f").unlink()


@scenario
def one_shot_added_again_after_it_fired(root: Path, device: AnyDevice) -> list[int]:
    wds = [device.add_watch(root, IN_CREATE | IN_ONESHOT)]
    (root / "f").touch()
    wds.append(device.add_watch(root, IN_CREATE | IN_ONESHOT))
    (root / "g").touch()
    return wds


# Unlinked names.


def _unlinked(flags: int, watched: str) -> Callable[[Path, AnyDevice], None]:
    def run(root: Path, device: AnyDevice) -> None:
        (root / "f").write_bytes(b"content")
        device.add_watch(root / watched, IN_ALL_EVENTS | flags)
        fd = os.open(root / "f", os.O_RDWR)
        (root / "f").unlink()
        os.read(fd, 1)
        os.write(fd, b"x")
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        os.close(fd)

    return run


register("excl unlink on the directory", _unlinked(IN_EXCL_UNLINK, "."))
register("excl unlink on the file", _unlinked(IN_EXCL_UNLINK, "f"))


@scenario
def excl_unlink_of_a_replaced_file(root: Path, device: AnyDevice) -> None:
    (root / "f").write_bytes(b"x")
    (root / "g").write_bytes(b"x")
    device.add_watch(root, IN_ALL_EVENTS | IN_EXCL_UNLINK)
    fd = os.open(root / "g", os.O_WRONLY)
    (root / "f").rename(root / "g")
    os.write(fd, b"y")
    os.close(fd)


@scenario
def excl_unlink_hears_of_a_renamed_file(root: Path, device: AnyDevice) -> None:
    (root / "f").write_bytes(b"x")
    device.add_watch(root, IN_ALL_EVENTS | IN_EXCL_UNLINK)
    fd = os.open(root / "f", os.O_WRONLY)
    (root / "f").rename(root / "g")
    os.write(fd, b"y")
    os.close(fd)


# Watches that move and go.


@scenario
def a_watch_follows_its_directory(root: Path, device: AnyDevice) -> None:
    (root / "s").mkdir()
    (root / "t").mkdir()
    device.add_watch(root / "s", IN_ALL_EVENTS)
    (root / "s").rename(root / "t" / "u")
    (root / "t" / "u" / "f").touch()


@scenario
def a_watched_parent_is_moved(root: Path, device: AnyDevice) -> None:
    (root / "s").mkdir()
    (root / "s" / "f").touch()
    device.add_watch(root / "s" / "f", IN_ALL_EVENTS)
    device.add_watch(root / "s", IN_MOVE_SELF)
    (root / "s").rename(root / "t")
    (root / "t" / "f").write_bytes(b"x")


@scenario
def source_and_target_of_a_move_are_watched(root: Path, device: AnyDevice) -> None:
    for name in ("s", "t"):
        (root / name).mkdir()
        device.add_watch(root / name, IN_ALL_EVENTS)
    (root / "s" / "f").write_bytes(b"x")
    (root / "s" / "f").rename(root / "t" / "g")
    (root / "t" / "g").rename(root / "h")
    (root / "h").rename(root / "s" / "f")


@scenario
def only_the_target_of_a_move_is_watched(root: Path, device: AnyDevice) -> None:
    (root / "s").mkdir()
    (root / "f").touch()
    device.add_watch(root / "s", IN_MOVED_TO)
    (root / "f").rename(root / "s" / "f")


@scenario
def a_new_file_of_the_same_name_is_not_watched(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    device.add_watch(root / "f", IN_ALL_EVENTS)
    (root / "f").unlink()
    (root / "f").write_bytes(b"x")


# Merging and reading.


@scenario
def equal_neighbours_merge(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    device.add_watch(root, IN_MODIFY)
    fd = os.open(root / "f", os.O_WRONLY)
    for _ in range(5):
        os.write(fd, b"x")
    os.close(fd)


@scenario
def nothing_merges_across_a_read(root: Path, device: AnyDevice) -> list[str]:
    (root / "f").touch()
    device.add_watch(root, IN_MODIFY)
    fd = os.open(root / "f", os.O_WRONLY)
    os.write(fd, b"x")
    first = readable(events(device))
    os.write(fd, b"y")
    os.close(fd)
    return first


@scenario
def alternating_events_do_not_merge(root: Path, device: AnyDevice) -> None:
    for name in ("f", "g"):
        (root / name).touch()
    device.add_watch(root, IN_ATTRIB)
    for name in ("f", "g", "f", "g", "g"):
        (root / name).chmod(0o600)


@scenario
def the_same_happens_to_watch_and_directory(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    device.add_watch(root / "f", IN_ATTRIB)
    device.add_watch(root, IN_ATTRIB)
    (root / "f").chmod(0o600)
    (root / "f").chmod(0o644)


def read_length(device: AnyDevice, size: int) -> int:
    return len(device.read(size))


def _read_sizes(name: str) -> Callable[[Path, AnyDevice], Any]:
    """Read a record of this name, and the next, with buffers of every size that matters."""

    def run(root: Path, device: AnyDevice) -> list[Any]:
        device.add_watch(root, IN_CREATE)
        (root / name).touch()
        (root / "z").touch()
        device.fence()
        answers: list[Any] = [device.fionread(), device.poll()]
        size = 16 + (len(name) + 16) // 16 * 16
        for buffer in (0, 1, 15, 16, size - 1, size, 31, 32, 4096):
            answers.append(outcome(partial(read_length, device, buffer)))
        return [*answers, device.fionread(), device.poll()]

    return run


for _length in (1, 15, 16, 31, 32, 255):
    register(f"reads of a record with a name of {_length} bytes", _read_sizes("n" * _length))


@scenario
def reading_an_empty_queue(root: Path, device: AnyDevice) -> list[Any]:
    device.add_watch(root, IN_CREATE)
    return [outcome(partial(device.read, size)) for size in (0, 15, 16, 4096)]


@scenario
def a_buffer_for_one_and_a_half_records(root: Path, device: AnyDevice) -> list[int]:
    device.add_watch(root, IN_CREATE | IN_CLOSE_WRITE)
    (root / "f").touch()
    device.fence()
    return [len(device.read(48)), len(device.read(48))]


@scenario
def access_to_a_file_read_twice(root: Path, device: AnyDevice) -> None:
    (root / "f").write_bytes(b"x")
    device.add_watch(root, IN_ACCESS)
    (root / "f").read_bytes()
    (root / "f").read_bytes()
