# SPDX-License-Identifier: GPL-2.0-or-later
"""Open files: flags, thousands of them, mappings, leases, locks, floods of fsync."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import signal
import threading
import time

from tests.hostile.context import Context, call

_FLAGS = (
    os.O_APPEND, os.O_TRUNC, os.O_DIRECT, os.O_CREAT, os.O_EXCL, os.O_NOATIME, os.O_SYNC,
    os.O_DSYNC, os.O_NOFOLLOW, os.O_PATH, os.O_DIRECTORY, os.O_TMPFILE, os.O_NOCTTY, os.O_ASYNC,
)  # fmt: skip
_WAYS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, 3)


def _flags(context: Context) -> int:
    flags = context.chosen.choice(_WAYS) | os.O_NONBLOCK
    for flag in context.chosen.sample(_FLAGS, context.chosen.randrange(4)):
        flags |= flag
    return flags


def _file(context: Context, side: str | None = None) -> tuple[str, int]:
    path = context.fresh(side)
    return path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)


@call
def open_anything(context: Context) -> None:
    """Open own and foreign names with any flags; read, write, change flags, keep some."""
    for _ in range(context.chosen.choice([20, 200])):
        if not context.has_time():
            return
        path = context.chosen.choice([context.path, context.path, context.foreign])()
        with contextlib.suppress(OSError):
            file = os.open(path, _flags(context), context.chosen.randrange(0o10000))
            context.look(file)
            with contextlib.suppress(OSError):
                os.pwrite(file, b"attacked" * context.chosen.choice([1, 1000]), 0)
            with contextlib.suppress(OSError):
                fcntl.fcntl(file, fcntl.F_SETFL, _flags(context))
                os.write(file, b"attacked")
            with contextlib.suppress(OSError):
                os.ftruncate(file, context.chosen.choice([0, 1, 2**40]))
            if context.chosen.random() < 0.1:
                context.hold(file)
            else:
                os.close(file)


@call
def hold_many(context: Context) -> None:
    """Hold as many descriptors as there are to be had, of one file or of many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = context.new_directory()
    one = context.chosen.random() < 0.5
    with contextlib.suppress(OSError):
        for number in range(context.chosen.choice([300, 3000, 12000])):
            path = f"{directory}/{0 if one else number}"
            context.hold(os.open(path, os.O_CREAT | os.O_RDWR, 0o644))
            if not context.has_time():
                return


@call
def hold_directories(context: Context) -> None:
    """Hold a directory open hundreds of times, at various offsets."""
    directory = context.new_directory()
    for number in range(context.chosen.choice([10, 1000])):
        os.close(os.open(f"{directory}/{number}", os.O_CREAT | os.O_WRONLY))
    seen = directory.replace(context.behind, context.through, 1)
    for _ in range(context.chosen.choice([10, 300])):
        file = os.open(seen, os.O_RDONLY)
        context.hold(file)
        with contextlib.suppress(OSError):
            os.lseek(file, context.chosen.choice([0, 1, 5, 2**31, 2**62]), os.SEEK_SET)
        os.listdir(file)
        if not context.has_time():
            return


@call
def mappings(context: Context) -> None:
    """Store to shared mappings while the file is cut and written; the child may die of it."""
    path, file = _file(context)
    os.ftruncate(file, 1 << 20)

    def store() -> None:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        memory = mmap.mmap(file, 1 << 20)
        for number in range(2000):
            memory[number * 512 : number * 512 + 5] = b"store"
            if number % 500 == 0:
                memory.flush()

    child = context.fork(store)
    for _ in range(20):
        with contextlib.suppress(OSError):
            os.truncate(path, context.chosen.choice([0, 4096, 1 << 20]))
            other = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(other, b"appended" * 600)
            os.close(other)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    os.close(file)


@call
def leases(context: Context) -> None:
    """Take leases behind the mount and never give them up; open, cut and remove through it."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    for _ in range(context.chosen.choice([1, 5, 20])):
        path, file = _file(context, context.behind)
        os.close(file)
        kind = context.chosen.choice([fcntl.F_RDLCK, fcntl.F_WRLCK])
        leased = os.open(path, os.O_RDONLY if kind == fcntl.F_RDLCK else os.O_RDWR)
        context.hold(leased)
        fcntl.fcntl(leased, fcntl.F_SETLEASE, kind)
        seen = path.replace(context.behind, context.through, 1)
        flags = context.chosen.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC])

        context.beside(os.open, seen, flags)
        context.beside(os.truncate, seen, 10)
        if context.chosen.random() < 0.3:
            context.beside(os.chmod, seen, 0o600)
            context.beside(os.rename, seen, seen + "x")


@call
def open_fifos(context: Context) -> None:
    """Open fifos that nobody else has open, also in place of files, and wait for ever."""
    for _ in range(context.chosen.choice([1, 10])):
        path = context.fresh(context.behind)
        seen = path.replace(context.behind, context.through, 1)
        if context.chosen.random() < 0.5:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            with contextlib.suppress(OSError):
                os.stat(seen)
            os.unlink(path)
        os.mkfifo(path)
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
            context.beside(os.open, seen, flags, 0o600)
        with contextlib.suppress(OSError):
            os.truncate(seen, 0)


@call
def flood_of_fsync(context: Context) -> None:
    """Hundreds of threads that each make sure of a file, again and again."""
    threading.stack_size(128 * 1024)
    over = time.monotonic() + 2.0
    directory = context.new_directory(context.through)
    for number in range(context.chosen.choice([20, 300, 800])):
        file = os.open(f"{directory}/{number % 50}", os.O_CREAT | os.O_RDWR, 0o644)
        context.hold(file)

        def sync(file: int = file) -> None:
            while time.monotonic() < over:
                os.pwrite(file, b"x" * 5000, 0)
                os.fsync(file)

        with contextlib.suppress(RuntimeError):
            context.beside(sync)
    while time.monotonic() < over and context.has_time():
        time.sleep(0.05)


@call
def locks(context: Context) -> None:
    """Lock files and wait for locks, in threads and children."""
    path, file = _file(context)
    context.hold(file)
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_EX)
    for _ in range(context.chosen.choice([2, 60])):

        def wait() -> None:
            other = os.open(path, os.O_RDWR)
            context.hold(other)
            fcntl.flock(other, fcntl.LOCK_EX)

        context.beside(wait)
    child = context.fork(lambda: fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX))
    context.hold(child)


@call
def large_files(context: Context) -> None:
    """Holes, ends far away, reads and writes at offsets that no file has, O_DIRECT misaligned."""
    path, file = _file(context)
    for offset in (2**31, 2**40, 2**62, 2**63 - 1):
        with contextlib.suppress(OSError, OverflowError):
            os.pwrite(file, b"far", offset)
        with contextlib.suppress(OSError, OverflowError):
            os.ftruncate(file, offset)
        with contextlib.suppress(OSError, OverflowError):
            os.pread(file, 1 << 20, offset - 100)
    os.ftruncate(file, 1 << 20)
    with contextlib.suppress(OSError):
        direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        context.hold(direct)
        os.pwrite(direct, b"x" * 777, 1)
    for number in range(50):
        with contextlib.suppress(OSError):
            os.copy_file_range(file, file, 4096, offset_src=0, offset_dst=8192 * number)
    os.close(file)
