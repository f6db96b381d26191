# SPDX-License-Identifier: GPL-2.0-or-later
"""``--access exact``: each read is told, as on Linux, and what that costs programs."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.bits import IN_ACCESS
from tests.conftest import Mounting
from tests.differential.conftest import World, both
from tests.differential.scenario import AnyDevice
from tests.differential.test_differences import (
    reading_a_large_file_in_small_pieces,
    reading_a_page_twice_with_one_descriptor,
)

pytestmark = pytest.mark.mount

MIB = 1 << 20


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A mount where every read is reported."""
    top = tmp_path_factory.mktemp("exact")
    for name in ("source", "mnt"):
        (top / name).mkdir()
    with (
        fusenotify.mounted(top / "source", top / "mnt", access="exact") as mount,
        mount.client() as client,
    ):
        yield World(top / "mnt", client)


class Reading:
    """A file of so many bytes, watched for reads, and the descriptor that reads it."""

    def __init__(self, root: Path, device: AnyDevice, size: int, flags: int = os.O_RDONLY) -> None:
        (root / "f").write_bytes(b"x" * size)
        device.add_watch(root, IN_ACCESS)
        self.fd = os.open(root / "f", flags)
        self._device = device

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.fd)

    def told_of(self, read: Callable[..., object], *arguments: Any) -> bool:
        """Do something, and return whether that was told."""
        read(self.fd, *arguments)
        self._device.fence()
        told = self._device.poll()
        if told:
            self._device.read(4096)
        return told


def reading_up_to_the_end_and_behind_it(root: Path, device: AnyDevice) -> list[bool]:
    with Reading(root, device, 5000) as reading:
        return [reading.told_of(os.read, 4096) for _ in range(4)]


def reading_nothing(root: Path, device: AnyDevice) -> list[bool]:
    with Reading(root, device, 5) as reading:
        return [reading.told_of(os.read, 0), reading.told_of(os.pread, 5, 100)]


def reading_with_a_vector(root: Path, device: AnyDevice) -> list[bool]:
    buffers = [bytearray(10), bytearray(4000)]
    with Reading(root, device, 5000) as reading:
        return [reading.told_of(os.preadv, buffers, 0) for _ in range(2)]


def two_descriptors_of_one_file(root: Path, device: AnyDevice) -> list[bool]:
    with Reading(root, device, 100) as first, open(root / "f", "rb", buffering=0) as second:
        return [
            first.told_of(os.read, 10),
            first.told_of(lambda _: second.read(10)),
            first.told_of(os.read, 10),
        ]


def reads_of_a_mebibyte(root: Path, device: AnyDevice) -> None:
    (root / "f").write_bytes(b"x" * (4 * MIB))
    for name in "abcd":  # another event between two reads, so that they do not merge
        (root / name).touch()
    device.add_watch(root, IN_ACCESS)
    with open(root / "f", "rb", buffering=0) as file:
        for name in "abcd":
            file.read(MIB)
            os.utime(root / name, ns=(1, os.stat(root / name).st_mtime_ns))


@pytest.mark.parametrize(
    "run",
    [
        reading_a_page_twice_with_one_descriptor,
        reading_a_large_file_in_small_pieces,
        reading_up_to_the_end_and_behind_it,
        reading_nothing,
        reading_with_a_vector,
        two_descriptors_of_one_file,
        reads_of_a_mebibyte,
    ],
    ids=lambda run: run.__name__.replace("_", " "),
)
def test_every_read_is_told_as_on_linux(
    run: Callable[[Path, AnyDevice], Any], linux: World, exact: World
) -> None:
    on_linux, through_the_mount = both(run, linux, exact)
    assert through_the_mount == on_linux


def test_a_file_open_for_writing_too_is_read_through_the_cache(exact: World) -> None:
    """So that it can be mapped shared: databases do."""
    device = exact.device()
    with Reading(exact.directory(), device, 100, os.O_RDWR) as reading:
        assert [reading.told_of(os.pread, 10, 0) for _ in range(2)] == [True, False]
        with mmap.mmap(reading.fd, 100) as mapping:
            mapping[0:1] = b"y"
        assert os.pread(reading.fd, 1, 0) == b"y"
    device.close()


def test_a_shared_mapping_of_what_is_open_for_reading_only_is_refused(exact: World) -> None:
    path = exact.directory() / "f"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        with pytest.raises(OSError, match="No such device") as refusal:
            mmap.mmap(file.fileno(), 7, mmap.MAP_SHARED, mmap.PROT_READ)
        assert refusal.value.errno == errno.ENODEV
        with mmap.mmap(file.fileno(), 7, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapping:
            assert mapping[:] == b"content"


def test_programs_run_and_files_are_copied(exact: World) -> None:
    directory = exact.directory()
    true = shutil.which("true")
    assert true is not None
    shutil.copy(true, directory / "program")
    subprocess.run([directory / "program"], check=True)
    shutil.copyfile(directory / "program", directory / "copy")
    assert (directory / "copy").read_bytes() == Path(true).read_bytes()


def test_reads_see_what_was_written_meanwhile(exact: World) -> None:
    path = exact.directory() / "f"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for line in (b"first\n", b"second\n"):
            writer.write(line)
            assert reader.read() == line


def test_without_the_option_nothing_is_read_past_the_cache(mounted: Mounted) -> None:
    path = Path(mounted.mountpoint) / "f"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        mmap.mmap(file.fileno(), 7, mmap.MAP_SHARED, mmap.PROT_READ).close()


def test_an_unknown_kind_of_access_is_refused(mounting: Mounting) -> None:
    with pytest.raises(fusenotify.MountFailed, match="--access"), mounting(access="none"):
        pass
