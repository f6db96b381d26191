# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory is listed as SOURCE lists it: names, offsets, and what goes on meanwhile."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.fs.syscalls import entries, getdents

pytestmark = pytest.mark.mount

COUNT = 600


@pytest.fixture(params=["/dev/shm", None], ids=["tmpfs", "disk"])
def many(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    """A mount whose root has COUNT files, with names of many lengths."""
    if request.param is not None and not os.path.ismount(request.param):
        pytest.skip(f"{request.param} is no filesystem of its own")
    with tempfile.TemporaryDirectory(dir=request.param) as source:
        for number in range(COUNT):
            Path(source, f"{number}" + "x" * (number % 240)).touch()
        with fusenotify.mounted(source, tmp_path) as mount:
            yield mount


def listed(fd: int) -> list[tuple[bytes, int]]:
    """Return the names and offsets from where a descriptor is."""
    found: list[tuple[bytes, int]] = []
    while batch := getdents(fd):
        found += [(name, offset) for name, _, offset in entries(batch, 0)]
    return found


def opened(directory: str) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY)


def test_names_and_offsets_are_those_of_source(many: Mounted) -> None:
    below, through = opened(many.source), opened(many.mountpoint)
    assert listed(through) == listed(below)
    assert getdents(through) == b""
    os.close(below)
    os.close(through)


def test_every_offset_leads_back_to_where_it_was(many: Mounted) -> None:
    through = opened(many.mountpoint)
    whole = listed(through)
    names = [name for name, _ in whole]
    for place in [*range(0, len(whole), 97), *range(len(whole) - 1, 0, -101)]:
        os.lseek(through, whole[place][1], os.SEEK_SET)
        batch = [name for name, _, _ in entries(getdents(through), 0)]
        assert batch == names[place + 1 : place + 1 + len(batch)]
    os.close(through)


def test_a_fresh_descriptor_may_begin_anywhere(many: Mounted) -> None:
    first = opened(many.mountpoint)
    whole = listed(first)
    os.close(first)
    fresh = opened(many.mountpoint)
    os.lseek(fresh, whole[COUNT // 2][1], os.SEEK_SET)
    assert listed(fresh) == whole[COUNT // 2 + 1 :]
    os.close(fresh)


def test_a_rewind_shows_new_names(many: Mounted) -> None:
    through = opened(many.mountpoint)
    before = listed(through)
    Path(many.source, "new").touch()
    os.lseek(through, 0, os.SEEK_SET)
    assert {name for name, _ in listed(through)} == {name for name, _ in before} | {b"new"}
    os.close(through)


def test_a_program_that_removes_listed_names_misses_none(many: Mounted) -> None:
    through = opened(many.mountpoint)
    removed = 0
    while batch := getdents(through):
        for name, _, _ in entries(batch, 0):
            if name not in (b".", b".."):
                os.unlink(name, dir_fd=through)
                removed += 1
    os.close(through)
    assert removed == COUNT
    assert os.listdir(many.source) == []


def test_a_removal_behind_the_mount_does_not_end_the_list(many: Mounted) -> None:
    """The names of an answer may all be gone: an empty answer would be the directory's end."""
    through = opened(many.mountpoint)
    getdents(through)
    kept = os.listdir(many.source)[-1]
    for name in os.listdir(many.source):
        if name != kept:
            os.unlink(os.path.join(many.source, name))
    rest = [name for name, _ in listed(through)]
    assert rest == [os.fsencode(kept)] or not rest  # it may have been before
    os.lseek(through, 0, os.SEEK_SET)
    assert sorted(name for name, _ in listed(through)) == [b".", b"..", os.fsencode(kept)]
    os.close(through)


@pytest.mark.parametrize("offset", [1, 7, 1 << 31, 1 << 40, (1 << 62) + 5])
def test_an_offset_of_the_programs_own_means_the_same_as_on_source(
    offset: int, mounted: Mounted
) -> None:
    answers: list[list[tuple[bytes, int]] | int | None] = []
    for number in range(20):
        Path(mounted.source, str(number)).touch()
    for directory in (mounted.source, mounted.mountpoint):
        fd = opened(directory)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            answers.append(listed(fd))
        except OSError as error:
            answers.append(error.errno)
        os.close(fd)
    assert answers[0] == answers[1]


def own_memory(mount: Mounted) -> int:
    status = Path(f"/proc/{mount.pid}/status").read_text()
    found = re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def test_an_open_directory_takes_no_more_for_its_entries(many: Mounted) -> None:
    descriptors = [opened(many.mountpoint) for _ in range(100)]
    listed(descriptors[0])
    before = own_memory(many)
    for fd in descriptors:
        getdents(fd)
    assert own_memory(many) - before < 100 * 10_000
    for fd in descriptors:
        os.close(fd)
