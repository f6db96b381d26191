# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what is seen through a mount is what was done to SOURCE before a fence.

    python -m tests.fs.stale --pairs 100000 --seed 1

A mount with --behind all lets the kernel remember for a day.  Each pair is a random change made in
SOURCE by another process, a fence, and a look at a name through the mount, which must see what
SOURCE has: attributes, extended ones and access control lists, contents by an old and by a new
descriptor, targets, listings with the attributes of what is listed, and that there is nothing.
All names were looked at before, so that there is something to be stale.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fusenotify

_NAMES = ["a", "b", "c", "d"]
_CHANGES = [
    *("write", "append", "truncate", "replace", "rewrite", "chmod", "utime"),
    *("unlink", "rename", "link", "symlink", "mkdir", "rmdir"),
    *("exchange", "retarget", "relink", "chown", "setxattr", "removexattr", "acl"),
]
_ATTRIBUTE, _ACL = "user.stale", "system.posix_acl_access"
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)
# How many files are held open, to be read again.
_HELD = 20


def change(top: str, chosen: random.Random) -> str:
    """Make a random change, which may fail; return what it was."""
    what = chosen.choice(_CHANGES)
    one, other = (path(top, chosen) for _ in range(2))
    with contextlib.suppress(OSError):
        match what:
            case "write" | "append":
                with open(one, "wb" if what == "write" else "ab") as file:
                    file.write(b"%d" % chosen.getrandbits(64))
            case "rewrite":  # as cp -p may: size and time stay
                status = os.stat(one)
                with open(one, "r+b") as file:
                    file.write((b"%020d" % chosen.getrandbits(64))[: status.st_size])
                os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
            case "truncate":
                os.truncate(one, chosen.randrange(40))
            case "chmod":
                os.chmod(one, chosen.choice([0o600, 0o644, 0o755, 0o700]))
            case "utime":
                os.utime(one, ns=(chosen.getrandbits(60), chosen.getrandbits(60)))
            case "unlink":
                os.unlink(one)
            case "rename":
                os.rename(one, other)
            case "link":
                os.link(one, other)
            case "symlink":
                os.symlink(str(chosen.randrange(100)), one)
            case "mkdir":
                os.mkdir(one)
            case "rmdir":
                os.rmdir(one)
            case "exchange":
                _libc.renameat2(-100, one.encode(), -100, other.encode(), _RENAME_EXCHANGE)
            case "chown":
                os.chown(one, chosen.randrange(3), chosen.randrange(3), follow_symlinks=False)
            case "setxattr":
                os.setxattr(one, _ATTRIBUTE, b"%d" % chosen.getrandbits(64), follow_symlinks=False)
            case "removexattr":
                os.removexattr(one, _ATTRIBUTE, follow_symlinks=False)
            case "acl":
                os.setxattr(one, _ACL, _acl(chosen.randrange(8)), follow_symlinks=False)
            case "replace" | "retarget" | "relink":
                temporary = os.path.join(top, "temporary")
                if what == "replace":
                    Path(temporary).write_bytes(b"%d" % chosen.getrandbits(64))
                elif what == "retarget":
                    os.symlink(str(chosen.getrandbits(64)), temporary)
                else:
                    os.link(other, temporary, follow_symlinks=False)
                try:
                    os.rename(temporary, one)
                finally:
                    with contextlib.suppress(FileNotFoundError):  # two links of one file stay
                        os.unlink(temporary)
    return f"{what} {one} {other}"


def _acl(permissions: int) -> bytes:
    """Return an access control list that gives user 1 permissions."""
    entries = ((1, 6, -1), (2, permissions, 1), (4, 4, -1), (16, 7, -1), (32, 4, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *each) for each in entries)


def path(top: str, chosen: random.Random) -> str:
    return "/".join([top, *chosen.choices(_NAMES, k=chosen.randint(1, 3))])


def seen(name: str) -> object:
    """Return all that is to be seen of a name."""
    try:
        status = os.lstat(name)
        found: list[object] = [
            (status.st_ino, status.st_mode, status.st_nlink, status.st_size),
            (status.st_uid, status.st_gid, status.st_mtime_ns),
        ]
        for attribute in (_ATTRIBUTE, _ACL):
            with contextlib.suppress(OSError):
                found.append(os.getxattr(name, attribute, follow_symlinks=False))
        if os.path.islink(name):
            found.append(os.readlink(name))
        elif os.path.isdir(name):
            with os.scandir(name) as entries:
                found.append(sorted(_listed(entry) for entry in entries))
        else:
            found.append(Path(name).read_bytes())
    except OSError as error:
        return error.errno
    return found


def _listed(entry: os.DirEntry[str]) -> tuple[object, ...]:
    status = entry.stat(follow_symlinks=False)
    kind = entry.is_dir(follow_symlinks=False), entry.is_symlink(), entry.inode()
    return entry.name, *kind, status.st_ino, status.st_mode, status.st_size


def hold(held: dict[str, tuple[int, int]], source: str, mnt: str, name: str) -> None:
    """Hold a file open, in SOURCE and in the mount."""
    with contextlib.suppress(OSError):
        below = os.open(source + name, os.O_RDONLY)
        try:
            held[name] = below, os.open(mnt + name, os.O_RDONLY)
        except OSError:
            os.close(below)
            raise
        if os.fstat(below).st_ino != os.fstat(held[name][1]).st_ino:
            for fd in held.pop(name):
                os.close(fd)


def _differs(
    held: dict[str, tuple[int, int]], chosen: random.Random, number: int, done: str
) -> bool:
    """Read a file that is held open, and perhaps let go of it; return whether it is stale."""
    if not held:
        return False
    name = chosen.choice([*held])
    below, through = held[name]
    there, here = (_contents(fd) for fd in (below, through))
    if there != here:
        print(f"pair {number}: {done}: {name}, held, is {there!r}, and read as {here!r}")
    if chosen.random() < 0.2:
        del held[name]
        os.close(below)
        os.close(through)
    return there != here


def _contents(fd: int) -> bytes | int | None:
    try:
        return os.pread(fd, 1000, 0)
    except OSError as error:
        return error.errno


def act(source: str) -> None:
    """Make changes as asked for on the standard input: a seed a line."""
    for line in sys.stdin:
        print(change(source, random.Random(int(line))), flush=True)


def run(pairs: int, seed: int) -> int:
    """Make so many pairs; return how many saw something else."""
    chosen, stale, held = random.Random(seed), 0, dict[str, tuple[int, int]]()
    with tempfile.TemporaryDirectory(prefix="stale-") as directory:
        source, mnt = f"{directory}/source", f"{directory}/mnt"
        os.mkdir(source)
        os.mkdir(mnt)
        with (
            fusenotify.mounted(source, mnt, behind="all") as mount,
            mount.client() as client,
            subprocess.Popen(
                [sys.executable, "-m", "tests.fs.stale", "--act", source],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            ) as other,
        ):
            assert other.stdin is not None
            assert other.stdout is not None
            for number in range(pairs):
                name = path("", chosen)
                seen(mnt + name)  # there shall be something to be stale
                if name not in held and len(held) < _HELD:
                    hold(held, source, mnt, name)
                other.stdin.write(f"{seed * pairs + number}\n")
                done = other.stdout.readline().strip()
                client.sync()
                looked = path("", chosen) if chosen.random() < 0.5 else name
                there, here = seen(source + looked), seen(mnt + looked)
                if there != here:
                    stale += 1
                    print(f"pair {number}: {done}: {looked} is {there}, and seen as {here}")
                stale += _differs(held, chosen, number, done)
            other.stdin.close()
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--act", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.act:
        act(arguments.act)
        return 0
    begin = time.monotonic()
    stale = run(arguments.pairs, arguments.seed)
    seconds = time.monotonic() - begin
    print(f"seed {arguments.seed}: {arguments.pairs} pairs in {seconds:.0f} s, {stale} stale")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
