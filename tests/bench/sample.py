# SPDX-License-Identifier: GPL-2.0-or-later
"""One sample: time each operation in a directory, in a process of its own.

tests.bench.compared runs this module as a program, once per filesystem and
round; it prints a JSON object of seconds per operation.  Standard library
only, so that starting it costs little and disturbs nothing.

Invariants
    Every operation is timed over the same names and sizes on every filesystem.
    What an operation needs is prepared before its clock starts, and what the
    one before left to be done (FUSE's RELEASE and FORGET are asynchronous) is
    waited for by a fence.
    The directory is empty again at the end.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter

SMALL = 4 << 10
LARGE = 1 << 20
Operation = Callable[["Sample"], float]


class Sample:
    """What the operations share: the directory as seen through the mount, and the counts.

    below is the same directory as seen without the mount (the mount's SOURCE);
    for the native filesystem the two are one.  files and blocks count the
    operations per sample on names and of 1 MiB.
    """

    def __init__(self, directory: str, below: str, files: int, blocks: int) -> None:
        self.directory = directory
        self.below = below
        self.files = files
        self.blocks = blocks
        self.names = [f"file-{number:05}" for number in range(files)]
        self.renamed = [f"renamed-{number:05}" for number in range(files)]
        self.fences = 0
        os.chdir(directory)

    def fence(self) -> None:
        """Return when what was asked of the filesystem before is done.

        A name never asked for before cannot be answered from the kernel's cache,
        and a filesystem that answers in order answers it last.
        """
        self.fences += 1
        try:
            os.stat(f"fence-{os.getpid()}-{self.fences}")
        except FileNotFoundError:
            return
        raise RuntimeError("a name that nobody made exists")

    def each(self, call: Callable[[str], object], names: Iterable[str]) -> float:
        """Return the seconds that one call takes, over all names."""
        self.fence()
        count = 0
        start = perf_counter()
        for name in names:
            call(name)
            count += 1
        return (perf_counter() - start) / count

    def lookup(self) -> float:
        """stat() of files that the kernel has not heard of: one LOOKUP each."""
        names = [f"below-{name}" for name in self.names]
        for name in names:
            os.close(os.open(os.path.join(self.below, name), os.O_CREAT | os.O_WRONLY, 0o644))
        seconds = self.each(os.stat, names)
        for name in names:
            os.unlink(name)
        return seconds

    def missing(self) -> float:
        """stat() of names that there are not, each asked for once: one LOOKUP each."""

        def call(name: str) -> None:
            with suppress(FileNotFoundError):
                os.stat(name)

        return self.each(call, [f"missing-{os.getpid()}-{name}" for name in self.names])

    def create(self) -> float:
        """open(O_CREAT | O_EXCL) and close()."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        return self.each(lambda name: os.close(os.open(name, flags, 0o644)), self.names)

    def stat(self) -> float:
        """stat() of files that were just used: the kernel may answer from its cache."""
        for name in self.names:
            os.stat(name)
        return self.each(os.stat, self.names)

    def open(self) -> float:
        """open() for writing of files that are there; they are closed behind the clock."""
        descriptors: list[int] = []
        seconds = self.each(lambda name: descriptors.append(os.open(name, os.O_WRONLY)), self.names)
        for fd in descriptors:
            os.close(fd)
        return seconds

    def open_write_close(self) -> float:
        content = b"x" * 100

        def call(name: str) -> None:
            fd = os.open(name, os.O_WRONLY)
            os.write(fd, content)
            os.close(fd)

        return self.each(call, self.names)

    def open_read_close(self) -> float:
        def call(name: str) -> None:
            fd = os.open(name, os.O_RDONLY)
            os.read(fd, SMALL)
            os.close(fd)

        return self.each(call, self.names)

    def rename(self) -> float:
        pairs = dict(zip(self.names, self.renamed, strict=True))
        return self.each(lambda name: os.rename(name, pairs[name]), self.names)

    def unlink(self) -> float:
        return self.each(os.unlink, self.renamed)

    def mkdir(self) -> float:
        return self.each(lambda name: os.mkdir(name, 0o755), self.names)

    def rmdir(self) -> float:
        return self.each(os.rmdir, self.names)

    def _write(self, name: str, size: int, count: int) -> float:
        block = b"x" * size
        fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
        self.fence()
        start = perf_counter()
        for _ in range(count):
            os.write(fd, block)
        seconds = (perf_counter() - start) / count
        os.close(fd)
        return seconds

    def _read(self, name: str, size: int, count: int) -> float:
        """Sequential reads, cold in the mount's page cache and warm below it."""
        fd = os.open(name, os.O_RDONLY)
        if self.directory != self.below:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self.fence()
        start = perf_counter()
        for _ in range(count):
            if len(os.read(fd, size)) != size:
                raise RuntimeError(f"{name} is shorter than what was written to it")
        seconds = (perf_counter() - start) / count
        os.close(fd)
        os.unlink(name)
        return seconds

    def write_small(self) -> float:
        return self._write("small", SMALL, self.files)

    def read_small(self) -> float:
        return self._read("small", SMALL, self.files)

    def write_large(self) -> float:
        return self._write("large", LARGE, self.blocks)

    def read_large(self) -> float:
        return self._read("large", LARGE, self.blocks)

    def repeated(self, call: Callable[[], object]) -> float:
        """Return the seconds that a call takes which was just made: the kernel may answer."""
        call()
        return self.each(lambda _: call(), self.names)

    def stat_again(self) -> float:
        """stat() of one file."""
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o644))
        seconds = self.repeated(lambda: os.stat("file"))
        os.unlink("file")
        return seconds

    def missing_again(self) -> float:
        """open() of a name that there is not."""

        def call() -> None:
            with suppress(FileNotFoundError):
                os.open("missing", os.O_RDONLY)

        return self.repeated(call)

    def readdir_again(self) -> float:
        """All names of an open directory, from its beginning."""
        for name in self.names:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        seconds = self.repeated(lambda: os.listdir(fd))
        os.close(fd)
        for name in self.names:
            os.unlink(name)
        return seconds

    def read_again(self) -> float:
        """The same 4 KiB of an open file."""
        fd = os.open("file", os.O_CREAT | os.O_RDWR, 0o644)
        os.write(fd, b"x" * SMALL)
        seconds = self.repeated(lambda: os.pread(fd, SMALL, 0))
        os.close(fd)
        os.unlink("file")
        return seconds


# In this order: some operations use what the one before them made.
OPERATIONS: dict[str, Operation] = {
    "missing": Sample.missing,
    "create": Sample.create,
    "stat": Sample.stat,
    "lookup": Sample.lookup,
    "open": Sample.open,
    "open-write-close": Sample.open_write_close,
    "open-read-close": Sample.open_read_close,
    "rename": Sample.rename,
    "unlink": Sample.unlink,
    "mkdir": Sample.mkdir,
    "rmdir": Sample.rmdir,
    "write 4 KiB": Sample.write_small,
    "read 4 KiB": Sample.read_small,
    "write 1 MiB": Sample.write_large,
    "read 1 MiB": Sample.read_large,
}
REPEATED: dict[str, Operation] = {
    "stat": Sample.stat_again,
    "open of a missing name": Sample.missing_again,
    "readdir": Sample.readdir_again,
    "read 4 KiB": Sample.read_again,
}
TABLES = {"requests": OPERATIONS, "cached": REPEATED}


def main() -> None:
    table, directory, below, files, blocks = sys.argv[1:]
    sample = Sample(directory, below, int(files), int(blocks))
    gc.disable()
    json.dump({name: operation(sample) for name, operation in TABLES[table].items()}, sys.stdout)


if __name__ == "__main__":
    main()
