# SPDX-License-Identifier: GPL-2.0-or-later
"""Names: deep, many, odd, changed behind, and leading elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time

from fusenotify.fs.syscalls import renameat2
from tests.hostile.context import Context, call
from tests.hostile.world import OPEN_TO_ALL

_EXCHANGE = 2  # Linux: RENAME_EXCHANGE
_WHITEOUT = 4


@call
def deep_tree(context: Context) -> None:
    """Make thousands of directories in each other, hold the deepest, and remove them perhaps."""
    depth = context.chosen.choice([60, 400, 1200, 2000])
    directory = os.open(context.new_directory(), os.O_RDONLY)
    made = 0
    while made < depth and context.has_time():
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory, made = below, made + 1
    file = os.open("f", os.O_CREAT | os.O_RDWR, 0o644, dir_fd=directory)
    if context.chosen.random() < 0.5:
        context.hold(file)
        os.unlink("f", dir_fd=directory)
    if context.chosen.random() < 0.3:
        context.hold(os.open(".", os.O_PATH, dir_fd=directory))
    if context.chosen.random() < 0.5:
        with contextlib.suppress(OSError):
            os.unlink("f", dir_fd=directory)
        while made and context.has_time():
            above = os.open("..", os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            os.rmdir("d", dir_fd=above)
            directory, made = above, made - 1
    os.close(directory)


@call
def many_links(context: Context) -> None:
    """Give a file thousands of names, look at them, take half away."""
    side = context.side()
    directory = context.new_directory(side)
    other = directory.replace(side, context.behind if side == context.through else context.through)
    os.close(os.open(f"{directory}/0", os.O_CREAT | os.O_WRONLY))
    count = context.chosen.choice([100, 1000, 4000])
    for number in range(1, count):
        if not context.has_time():
            break
        os.link(f"{directory}/0", f"{directory}/{number}")
    for number in range(count):
        with contextlib.suppress(FileNotFoundError):
            os.stat(f"{context.chosen.choice([directory, other])}/{number}")
            if context.chosen.random() < 0.5:
                os.unlink(f"{context.chosen.choice([directory, other])}/{number}")
        if not context.has_time():
            break


@call
def many_entries(context: Context) -> None:
    """Fill a directory, hold it open many times, each read a bit."""
    side = context.side()
    directory = context.new_directory(side)
    for number in range(context.chosen.choice([200, 2000, 8000])):
        os.close(os.open(f"{directory}/{number}", os.O_CREAT | os.O_WRONLY))
        if not context.has_time():
            break
    through = directory.replace(side, context.through)
    for _ in range(context.chosen.choice([1, 20, 200])):
        entries = os.scandir(through)
        for _ in range(context.chosen.randrange(5)):
            next(entries, None)
        context.hold(entries)
    for name in os.listdir(through)[:500]:
        with contextlib.suppress(OSError):
            os.stat(f"{through}/{name}")


def _something(context: Context, path: str) -> None:
    """Put something at a path."""
    match context.chosen.randrange(8):
        case 0:
            os.mkdir(path)
        case 1:
            os.mkfifo(path)
        case 2:
            os.symlink(context.foreign(), path)
        case 3:
            os.symlink(context.name(), path)
        case 4:
            os.link(context.path(), path)
        case 5:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path)
        case _:
            mode = context.chosen.randrange(0o10000)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))


@call
def shuffle(context: Context) -> None:
    """Make, rename, exchange, link and remove a few names on both sides."""
    for _ in range(context.chosen.choice([10, 100, 400])):
        if not context.has_time():
            return
        with contextlib.suppress(OSError):
            side = context.side()
            one, other = context.path(side), context.path(side)
            match context.chosen.randrange(9):
                case 0 | 1:
                    _something(context, one)
                case 2:
                    os.rename(one, other)
                case 3:
                    renameat2(-1, one.encode(), -1, other.encode(), _EXCHANGE)
                case 4:
                    renameat2(-1, one.encode(), -1, f"{other}/{context.name()}".encode(), 0)
                case 5:
                    renameat2(-1, one.encode(), -1, other.encode(), _WHITEOUT)
                case 6:
                    os.unlink(one)
                case 7:
                    os.rmdir(one)
                case 8:
                    os.stat(f"{one}/{context.name()}")


@call
def rename_what_is_foreign(context: Context) -> None:
    """Try to move, remove and link what is another's."""
    for _ in range(20):
        foreign, own = context.foreign(), context.fresh()
        context.attempt(os.rename, foreign, own)
        context.attempt(os.link, foreign, own)
        context.attempt(os.unlink, foreign)
        context.attempt(os.rmdir, foreign)
        exchanged = foreign.encode(), context.path().encode()
        context.attempt(renameat2, -1, exchanged[0], -1, exchanged[1], _EXCHANGE)
        context.attempt(os.mkdir, f"{foreign}/made")
        context.attempt(os.symlink, "x", f"{foreign}/made")


@call
def odd_names(context: Context) -> None:
    """Names as long as can be, longer, and of any bytes."""
    directory = context.new_directory().encode()
    for name in (b"x" * 255, b"x" * 256, b"\xff\xfe", b"\n", b" ", b"\\", b"...", b"-rf", b"%s%n"):
        for make in (os.mkdir, lambda path: os.close(os.open(path, os.O_CREAT | os.O_RDWR))):
            with contextlib.suppress(OSError):
                make(directory + b"/" + name)
                os.rename(directory + b"/" + name, directory + b"/" + name[:-1] + b"y")
    with contextlib.suppress(OSError):
        os.symlink(b"t" * 4095, directory + b"/long")
        os.readlink(directory + b"/long")
    with contextlib.suppress(OSError):
        os.mknod(directory + b"/whiteout", stat.S_IFCHR, os.makedev(0, 0))
    with contextlib.suppress(OSError):
        os.mknod(directory + b"/memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))


@call
def links_in_circles(context: Context) -> None:
    """Symbolic links into the mount, into themselves, out of it, and through each other."""
    directory = context.new_directory()
    os.symlink(directory, f"{directory}/self")
    os.symlink(f"{context.through}/{OPEN_TO_ALL[0]}", f"{directory}/in")
    os.symlink(context.foreign(), f"{directory}/out")
    os.symlink("/proc/self/root", f"{directory}/root")
    os.symlink("a", f"{directory}/b")
    os.symlink("b", f"{directory}/a")
    seen = f"{directory}/" + "self/" * context.chosen.randrange(30)
    for name in ("in", "out", "root/etc/shadow", "a", "self"):
        for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC, os.O_PATH):
            with contextlib.suppress(OSError):
                file = os.open(seen + name, flags | os.O_NONBLOCK, 0o600)
                context.look(file)
                os.close(file)


@call
def change_a_name_behind(context: Context) -> None:
    """Let one name be a file, a link to a secret, a fifo, a directory, while it is used."""
    place = context.chosen.choice(OPEN_TO_ALL)
    name = f"swap{context.chosen.getrandbits(30):x}"
    behind = f"{context.behind}/{place}/{name}"
    seen = f"{context.through}/{place}/{name}"
    over = time.monotonic() + context.chosen.choice([0.3, 1.0])
    foreign = [context.foreign(context.behind) for _ in range(3)]

    def swap() -> None:
        number = 0
        while time.monotonic() < over:
            number += 1
            made = f"{behind}.{number % 2}"
            with contextlib.suppress(OSError):
                _remove(made)
            with contextlib.suppress(OSError):
                if number % 3:
                    _something(context, made)
                else:
                    os.symlink(foreign[number % 9 // 3], made)
            with contextlib.suppress(OSError):
                os.rename(made, behind)
            if number % 5 == 0:
                with contextlib.suppress(OSError):
                    _remove(behind)

    child = context.fork(swap)
    flags = [
        0,
        os.O_CREAT,
        os.O_CREAT | os.O_TRUNC,
        os.O_CREAT | os.O_EXCL,
        os.O_APPEND,
        os.O_TRUNC,
    ]
    flags += [os.O_NOFOLLOW, os.O_PATH, os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW]
    while time.monotonic() < over:
        with contextlib.suppress(OSError):
            _use(context, seen, context.chosen.choice(flags))
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _use(context: Context, path: str, flags: int) -> None:
    match context.chosen.randrange(9):
        case 0:
            os.chmod(path, context.chosen.choice([0o666, 0o4777, 0o2777]))
        case 1:
            os.setxattr(path, "user.a", b"b" * 100)
        case 2:
            os.truncate(path, context.chosen.randrange(100))
        case 3:
            os.utime(path, ns=(1, 1))
        case 4:
            os.link(path, context.fresh(context.through))
        case 5:
            os.mkdir(path)
            os.rmdir(path)
        case _:
            way = context.chosen.choice([os.O_RDONLY, os.O_RDWR, os.O_WRONLY])
            file = os.open(path, way | flags | os.O_NONBLOCK, 0o666)
            try:
                context.look(file)
                if way != os.O_RDONLY:
                    os.write(file, b"attacked")
            finally:
                os.close(file)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except IsADirectoryError:
        os.rmdir(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
