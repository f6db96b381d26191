# SPDX-License-Identifier: GPL-2.0-or-later
"""Flags of open(2) count at each call, as on Linux, whichever descriptor a request comes by."""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fusenotify import Mounted
from tests.cli.command import until
from tests.conftest import Mounting

pytestmark = pytest.mark.mount

# Programs of test_descriptors_..., and calls of each.
PROGRAMS = 100
CALLS = 150
PAGE = mmap.PAGESIZE
LARGEST = 6 * PAGE
_ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)
_OPENED_WITH = (os.O_APPEND, os.O_SYNC, os.O_DSYNC, os.O_TRUNC, os.O_NOATIME, os.O_NONBLOCK)
_CHANGED = (os.O_APPEND, os.O_NOATIME, os.O_NONBLOCK)


class World:
    """A file under a program of many descriptors and mappings."""

    def __init__(self, path: Path, closing: ExitStack) -> None:
        self.path = path
        self.fds: list[int] = []
        self.views: list[mmap.mmap] = []
        closing.callback(self.close)

    def close(self) -> None:
        for view in self.views:
            view.close()
        for fd in self.fds:
            os.close(fd)
        self.views, self.fds = [], []

    def open(self, flags: int) -> None:
        self.fds.append(os.open(self.path, flags | os.O_CREAT))

    def shut(self, which: int) -> None:
        if self.fds:
            os.close(self.fds.pop(which % len(self.fds)))

    def map(self, which: int) -> int:
        """Map what there is of the file, for a descriptor that allows it."""
        fd = self.fds[which % len(self.fds)]
        size = os.fstat(fd).st_size
        self.views.append(mmap.mmap(fd, size))
        return size

    def unmap(self, which: int) -> None:
        if self.views:
            self.views.pop(which % len(self.views)).close()

    def store(self, which: int, offset: int, data: bytes) -> None:
        if not self.views:
            return
        view = self.views[which % len(self.views)]
        end = min(len(view), self.path.stat().st_size)  # behind it there is SIGBUS
        if end > offset:
            view[offset : min(offset + len(data), end)] = data[: end - offset]

    def flush(self, which: int) -> None:
        if self.views:
            self.views[which % len(self.views)].flush()

    def set_flags(self, which: int, flags: int) -> None:
        fd = self.fds[which % len(self.fds)]
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)

    def call(self, what: Callable[..., object], which: int, *args: object) -> object:
        return what(self.fds[which % len(self.fds)], *args)


Step = Callable[[World], object]


def program(pick: random.Random, length: int) -> Iterator[Step]:
    """Draw calls; offsets and sizes are often those of pages."""
    first = os.O_RDWR | pick.choice((0, os.O_APPEND))
    yield lambda world: world.open(first)
    for _ in range(length):
        which = pick.randrange(8)
        offset = pick.choice((pick.randrange(LARGEST), pick.randrange(6) * PAGE))
        flags = _some(pick, _CHANGED)
        data = bytes([pick.randrange(1, 256)]) * pick.choice((1, 10, PAGE, 5000))
        yield pick.choice(
            (
                _opening(pick),
                lambda world, n=which: world.shut(n) if len(world.fds) > 1 else None,
                lambda world, n=which, f=flags: world.set_flags(n, f),
                lambda world, n=which, d=data: world.call(os.write, n, d),
                lambda world, n=which, d=data: world.call(os.write, n, d),
                lambda world, n=which, d=data, o=offset: world.call(os.pwrite, n, d, o),
                lambda world, n=which, d=data, o=offset: world.call(
                    os.pwritev, n, [d], o, os.RWF_APPEND
                ),
                lambda world, n=which: world.call(os.read, n, 5000),
                lambda world, n=which, o=offset: world.call(os.pread, n, 5000, o),
                lambda world, n=which, o=offset: world.call(os.lseek, n, o, os.SEEK_SET),
                lambda world, n=which, o=offset: world.call(os.ftruncate, n, o),
                lambda world, n=which: world.map(n),
                lambda world, n=which, o=offset, d=data: world.store(n, o, d),
                lambda world, n=which, o=offset, d=data: world.store(n, o, d),
                lambda world, n=which: world.flush(n),
                lambda world, n=which: world.unmap(n),
            )
        )


def _some(pick: random.Random, flags: tuple[int, ...]) -> int:
    chosen = 0
    for flag in flags:
        chosen |= pick.choice((0, flag))
    return chosen


def _opening(pick: random.Random) -> Step:
    flags = pick.choice(_ACCESS) | pick.choice((0, *_OPENED_WITH)) | pick.choice((0, os.O_APPEND))
    return lambda world: world.open(flags)


def answer(step: Step, world: World) -> object:
    try:
        return step(world)
    except (OSError, ValueError) as error:
        return type(error).__name__, getattr(error, "errno", None)


def test_descriptors_and_mappings_of_one_file_write_as_on_linux(
    mounted: Mounted, tmp_path: Path
) -> None:
    for seed in range(PROGRAMS):
        native = tmp_path / str(seed)
        through, source = Path(mounted.mountpoint, str(seed)), Path(mounted.source, str(seed))
        with ExitStack() as closing:
            worlds = [World(native, closing), World(through, closing)]
            for number, step in enumerate(program(random.Random(seed), CALLS)):
                expected, found = (answer(step, world) for world in worlds)
                assert found == expected, f"call {number} with seed {seed}"
            assert through.read_bytes() == native.read_bytes(), seed
        assert through.read_bytes() == native.read_bytes(), seed
        assert source.read_bytes() == native.read_bytes(), seed


@pytest.mark.parametrize("access", [os.O_WRONLY, os.O_RDWR], ids=["to write", "to read and write"])
@pytest.mark.parametrize("opens", ["once", "each time"])
@pytest.mark.parametrize("looks", [False, True], ids=["never looks", "looks"])
def test_appends_through_the_mount_and_to_source_are_not_lost(
    mounted: Mounted, access: int, opens: str, looks: bool
) -> None:
    top, source = Path(mounted.mountpoint, "log"), Path(mounted.source, "log")
    expected = b""
    with ExitStack() as closing:
        behind = os.open(source, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        closing.callback(os.close, behind)
        kept = os.open(top, access | os.O_APPEND)
        closing.callback(os.close, kept)
        for number in range(30):
            there, here = b"there %d, and longer\n" % number, b"here %d\n" % number
            os.write(behind, there)
            if looks:
                top.stat()
            if opens == "once":
                os.write(kept, here)
            else:
                with open(top, "ab") as file:
                    file.write(here)
            expected += there + here
    assert source.read_bytes() == expected


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_log_that_has_grown_in_source_is_opened_and_appended_to(
    mounting: Mounting, seconds: float
) -> None:
    with mounting(attr_timeout=seconds) as mount:
        top, source = Path(mount.mountpoint, "log"), Path(mount.source, "log")
        top.write_bytes(b"begin\n")
        top.stat()  # now the kernel knows an end, for so long
        with open(source, "ab") as file:
            file.write(b"there\n" * 1000)
        with open(top, "ab") as file:
            file.write(b"here\n")
        assert source.read_bytes() == b"begin\n" + b"there\n" * 1000 + b"here\n"


def test_data_stored_at_the_end_of_a_log_that_grew_in_source_stays_there(
    mounted: Mounted,
) -> None:
    log = Path(mounted.source) / "log"
    log.write_bytes(b"a" * PAGE)
    fd = os.open(Path(mounted.mountpoint) / "log", os.O_RDWR | os.O_APPEND)
    with log.open("ab") as behind:
        behind.write(b"b" * PAGE)
    until(lambda: os.fstat(fd).st_size == 2 * PAGE, "the kernel knows of the new end")
    with mmap.mmap(fd, 2 * PAGE) as view:
        view[PAGE + 1] = ord("x")
        view.flush()
    os.write(fd, b"end")
    os.close(fd)
    assert log.read_bytes() == b"a" * PAGE + b"bx" + b"b" * (PAGE - 2) + b"end"


@pytest.fixture
def append_only(mounted: Mounted) -> Iterator[Path]:
    """A file of a line that chattr(1) made so, in the mount."""
    source = Path(mounted.source, "log")
    source.write_bytes(b"begin\n")
    if (
        shutil.which("chattr") is None
        or subprocess.run(["chattr", "+a", source], check=False).returncode
    ):
        pytest.skip("this filesystem has no append-only files")
    yield Path(mounted.mountpoint, "log")
    subprocess.run(["chattr", "-a", source], check=True)


def test_an_append_only_file_is_appended_to_and_no_more(append_only: Path) -> None:
    for access in (os.O_WRONLY, os.O_RDWR):
        fd = os.open(append_only, access | os.O_APPEND)
        os.write(fd, b"one\n")
        os.pwrite(fd, b"two\n", 0)
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"lost", 0)
        os.close(fd)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND | os.O_TRUNC):
        with pytest.raises(PermissionError):
            os.open(append_only, flags)
    assert append_only.read_bytes() == b"begin\n" + b"one\ntwo\n" * 2


def test_a_log_that_is_emptied_in_source_begins_anew(mounted: Mounted) -> None:
    top, source = Path(mounted.mountpoint, "log"), Path(mounted.source, "log")
    with open(top, "ab", buffering=0) as file:
        file.write(b"before\n")
        os.truncate(source, 0)
        file.write(b"after\n")
    assert source.read_bytes() == b"after\n"


def test_appends_of_more_than_a_request_stay_in_one_piece(mounted: Mounted) -> None:
    top, source = Path(mounted.mountpoint, "f"), Path(mounted.source, "f")
    top.write_bytes(b"x")
    with open(top, "ab", buffering=0) as file:
        for letter in b"abc":
            file.write(bytes([letter]) * (3 << 20))
    piece = 3 << 20
    assert source.read_bytes() == b"x" + b"a" * piece + b"b" * piece + b"c" * piece


def test_reads_of_a_file_opened_with_o_noatime_leave_no_trace(mounted: Mounted) -> None:
    top, source = Path(mounted.mountpoint, "f"), Path(mounted.source, "f")
    top.write_bytes(b"x")
    os.utime(source, ns=(1, source.stat().st_mtime_ns))
    fd = os.open(top, os.O_RDONLY | os.O_NOATIME)
    try:
        assert os.read(fd, 1) == b"x"
    finally:
        os.close(fd)
    assert source.stat().st_atime_ns == 1
